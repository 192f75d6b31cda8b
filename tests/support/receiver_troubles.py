"""Raw alerts and incidents for a receiver, while both processes are killed, and while it fails in each way."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from service.test_supervisor import free_port
from support import falcosidekick
from support.crash import Victim, attack, critical_places, raw_alert, send, send_raw, slow
from support.waiting import wait_until

from sidecar.rules.rule import CorrelationRule


class OverAllKills(NamedTuple):
    """What became of raw alerts and of incidents while both processes were killed repeatedly."""

    raw: int
    raw_lost: int
    in_order: bool
    incidents: int
    incidents_lost: int


def kills_of_everything(folder: Path, rule: CorrelationRule, *, kills: int, seed: int) -> OverAllKills:
    """Kill both processes at seeded points between attacks and raw alerts; each alert is sent until it is answered.

    An attack has two steps and a critical one, each of them a message.
    """
    rng = random.Random(seed)
    raw_each, attacks_each = 304, 11
    with falcosidekick.running() as sidekick:
        sidekick.behave = slow
        victim = Victim(
            folder,
            free_port(),
            sidekick=sidekick.url,
            FALCO_CORRELATOR_SINKS__FALCOSIDEKICK__URL=sidekick.url,
            FALCO_CORRELATOR_PASS_THROUGH__QUEUE_SIZE="100000",  # noqa: S106 - no password
        )
        for kill in range(kills):
            sent = 0
            stop_at = rng.randrange(raw_each)
            for number in range(attacks_each):
                send(victim, attack(rule, f"k{kill}-{number}"))
                until = (number + 1) * raw_each // attacks_each
                send_raw(victim, range(kill * raw_each + sent, kill * raw_each + until))
                if sent <= stop_at < until:
                    victim.kill_all()
                    victim.start()
                sent = until
        sidekick.behave = lambda _: None
        expected = [raw_alert(number) for number in range(kills * raw_each)]
        containers = {f"k{kill}-{number}" for kill in range(kills) for number in range(attacks_each)}
        wait_until(lambda: len({*sidekick.raw} & {*expected}) == len(expected), 300)
        wait_until(lambda: containers <= critical_places(sidekick), 300)  # a kill may join the steps before it
        victim.stop()
    first_times = [body for body in dict.fromkeys(sidekick.raw) if b'"rule":"raw"' in body]
    return OverAllKills(
        len(expected),
        len({*expected} - {*first_times}),
        first_times == expected,
        len(containers),
        len(containers - critical_places(sidekick)),
    )


FAILURES = {"500": 500, "429": 429, "503": 503, "301": 301, "a closed connection": 0}
"""Answers of a receiver that is out of order."""


def raw_alerts_over_failures(folder: Path, *, count: int, seconds: float) -> dict[str, int]:
    """F16: so many raw alerts for a receiver that fails for `seconds`, in each way; how many it never gets."""
    lost = {}
    for name, status in FAILURES.items():
        with falcosidekick.running() as sidekick:
            sidekick.retry_after = "1" if status == 429 else ""
            sidekick.behave = _failing(status)
            place = folder / name
            place.mkdir()
            victim = Victim(place, free_port(), sidekick=sidekick.url, with_state=False)
            send_raw(victim, range(count))
            time.sleep(seconds)
            sidekick.behave = lambda _: None
            sidekick.wait_for(count)
            victim.stop()
            lost[name] = count - len({*sidekick.raw})
    return lost


def _failing(status: int) -> Callable[[int], int]:
    def fail(_: int) -> int:
        if not status:
            raise falcosidekick.Panicked
        return status

    return fail
