"""Kills, full and slow disks, a sink that is down, and a flood, all mixed, against a real service."""

import http.client
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from conftest import needs, spec
from correlation.test_flood import flood
from service.test_supervisor import free_port
from support import falcosidekick
from support.crash import Victim, critical_places
from support.slow_disk import SOURCE
from support.waiting import wait_until

from sidecar.cli.testing.stories import alerts
from sidecar.model import RANK
from sidecar.rules.rule import CorrelationRule
from sidecar.service.supervisor import STEADY_SECONDS

FULL = Path(__file__).with_name("full_disk.c")

TROUBLES = ("full disk", "slow disk", "sink down", "worker killed", "all killed", "none")


class Mixed(NamedTuple):
    """What became of the attacks, each in a container of its own beside one that floods."""

    attacks: int
    lost: int
    repeated: int
    overtaken: int
    crashes: int
    flooded: int
    sent_of_flood: int


class Rig:
    """The service, its disk and its sink."""

    def __init__(self, folder: Path, sidekick: falcosidekick.Falcosidekick) -> None:
        self.sidekick = sidekick
        self.full, self.slow = folder / "full", folder / "slow"
        shims = []
        for source in (SOURCE, FULL):
            shims.append(folder / f"{source.stem}.so")
            subprocess.run([needs("cc"), "-shared", "-fPIC", "-O1", "-o", shims[-1], source], check=True)
        self.victim = Victim(
            folder,
            free_port(),
            FALCO_CORRELATOR_SINKS__FALCOSIDEKICK__URL=sidekick.url,
            FALCO_CORRELATOR_PASS_THROUGH__MODE="none",  # noqa: S106 - no password
            LD_PRELOAD=":".join(map(str, shims)),
            FULL_DISK=str(self.full),
            SLOW_SYNC=str(self.slow),
        )
        self.crashes = 0

    def mend(self) -> None:
        """All works again, and what waited for the disk is in the file."""
        was_full = self.full.exists()
        self.full.unlink(missing_ok=True)
        self.slow.unlink(missing_ok=True)
        self.sidekick.behave = lambda _: None
        if was_full and self._log().count("continuing in memory"):
            wait_until(lambda: self._log().count("can be used again") >= self._log().count('ing in memory"'), 120)

    def trouble(self, kind: str) -> None:
        """Begin a trouble, or kill; a service in trouble is not killed, since only then is memory all that it has."""
        if kind == "full disk":
            self.full.touch()
        elif kind == "slow disk":
            self.slow.touch()
        elif kind == "sink down":
            self.sidekick.behave = lambda _: 503
        elif kind == "worker killed":
            time.sleep(STEADY_SECONDS + 0.1)  # otherwise so many kills are a crash loop to the supervisor
            ready = self.victim.starts()
            self.victim.kill_worker()
            self.victim.await_starts(ready + 1)
            self.crashes += 1
        elif kind == "all killed":
            self.victim.kill_all()
            self.victim.start()
            self.crashes += 1

    def _log(self) -> str:
        return (self.victim.folder / "log.jsonl").read_text()


def mixed_troubles(folder: Path, rule: CorrelationRule, *, rounds: int, seed: int) -> Mixed:
    """Rounds of troubles, each in the middle of five attacks, while one container floods all the time."""
    rng = random.Random(seed)
    flooded, stopped = [0], threading.Event()
    with falcosidekick.running() as sidekick:
        rig = Rig(folder, sidekick)
        flooding = threading.Thread(target=_flood, args=(rig.victim.port, flooded, stopped))
        flooding.start()
        kinds = [kind for turn in range(rounds) for kind in [TROUBLES[turn % len(TROUBLES)]]]
        rng.shuffle(kinds)
        for number, kind in enumerate(kinds):
            bodies = list(_attacks(rule, number))
            at = rng.randrange(len(bodies))
            for index, body in enumerate(bodies):
                if index == at:
                    rig.trouble(kind)
                _post(rig.victim.port, body)
            rig.mend()
        expected = {f"m{number}-{each}" for number in range(rounds) for each in range(5)}
        stopped.set()
        flooding.join()
        wait_until(
            lambda: expected <= critical_places(sidekick),
            300,
            why=f"{len(expected - critical_places(sidekick))} missing",
        )
        rig.victim.stop()
        return _judged(sidekick, expected, rig.crashes, flooded[0])


def _judged(sidekick: falcosidekick.Falcosidekick, expected: set[str], crashes: int, flooded: int) -> Mixed:
    fields = [event["output_fields"] for event in sidekick.events if "incident.id" in event["output_fields"]]
    ours = [each for each in fields if each.get("container.name", "") in expected]
    times = Counter((each["incident.id"], each["incident.severity"]) for each in ours)
    ranks: dict[str, list[int]] = {}
    for incident, severity in times:  # in the order of the first time
        ranks.setdefault(incident, []).append(RANK[severity])
    return Mixed(
        len(expected),
        len(expected - critical_places(sidekick)),
        sum(times.values()) - len(times),
        sum(found != sorted(found) for found in ranks.values()),
        crashes,
        flooded,
        len(fields) - len(ours),
    )


def _attacks(rule: CorrelationRule, number: int) -> Iterator[bytes]:
    stories = [
        [
            spec("tini > nginx > sh", "web_shell", container=f"m{number}-{each}"),
            spec("tini > nginx > sh > curl", "network", at="1s", container=f"m{number}-{each}"),
            spec("tini > nginx > sh > cat", "credential", at="2s", container=f"m{number}-{each}"),
        ]
        for each in range(5)
    ]
    for turn in zip(*stories, strict=True):
        for step in turn:
            yield from alerts(rule, [step])


def _post(port: int, body: bytes) -> None:
    """As Falco does: again if the connection ends before the answer, or while nobody listens."""
    while True:
        falco = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            falco.request("POST", "/", body)
            falco.getresponse().read()
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
        else:
            return
        finally:
            falco.close()


def _flood(port: int, count: list[int], stopped: threading.Event) -> None:
    """Web shells of one container with roots of their own and a connection each: two alerts, an incident."""
    while not stopped.wait(0.004):
        body = flood(count[0] // 2)
        _post(port, body if count[0] % 2 == 0 else body.replace(b"web_shell", b"network"))
        count[0] += 1
