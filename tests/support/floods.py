"""Floods of one container against a real service: what becomes of the evidence, the incidents and the disk of others."""

import http.client
import json
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from correlation.test_flood import flood
from service.test_supervisor import free_port
from support import falcosidekick
from support.crash import Victim, attack, critical_places
from support.waiting import wait_until

from sidecar.cli.testing.stories import BEGIN
from sidecar.incidents.falco_event import rfc3339
from sidecar.rules.rule import CorrelationRule

CONTROL = "\x01" * 512
"""A text that JSON writes six times as long."""


def post_all(port: int, bodies: Iterable[bytes]) -> None:
    """Post alerts over one connection, as fast as they are answered."""
    falco = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for body in bodies:
        falco.request("POST", "/", body)
        falco.getresponse().read()
    falco.close()


def of_incidents(sidekick: falcosidekick.Falcosidekick) -> list[dict[str, Any]]:
    """The fields of the messages about incidents."""
    return [each["output_fields"] for each in list(sidekick.events) if "incident.id" in each["output_fields"]]


def evidence_after_flood_and_kill(folder: Path, rule: CorrelationRule, *, alerts_between: int) -> bool:
    """F8: a web shell, so many alerts of its own, kill -9 of everything, a theft. Whether it becomes critical."""
    shell, network, theft = attack(rule, "loud")
    template = json.loads(network)
    with falcosidekick.running() as sidekick:
        victim = Victim(folder, free_port(), FALCO_CORRELATOR_SINKS__FALCOSIDEKICK__URL=sidekick.url)
        post_all(victim.port, [shell, *_repeated(template, alerts_between)])
        victim.kill_all()
        victim.start()
        post_all(victim.port, [theft])
        wait_until(lambda: "loud" in critical_places(sidekick))
        victim.stop()
    return True


def _repeated(template: dict[str, Any], count: int) -> Iterator[bytes]:
    fields = template["output_fields"]
    pid = fields["proc.pid"]
    for number in range(count):
        changed = {**fields, "proc.pid": pid + 10 + number, "proc.cmdline": f"curl http://10.0.0.1/{number}"}
        time_text = rfc3339(BEGIN + 1_000_000_000 + number * 1000)
        yield json.dumps({**template, "time": time_text, "output_fields": changed}).encode()


class BesideAFlood(NamedTuple):
    """What another container's incidents had of a flood: seconds until the new one was delivered, and the old one's."""

    delivered_after: float
    old_one_is_shown: bool
    messages_of_flood: int


def incidents_beside_a_flood(folder: Path, rule: CorrelationRule, *, roots: int) -> BesideAFlood:
    """F7: so many service roots of one container with an incident each, a sink that takes 20 ms, and two quiet ones."""
    admin = free_port()
    with falcosidekick.running() as sidekick:
        sidekick.behave = lambda _: time.sleep(0.02)
        victim = Victim(
            folder,
            free_port(),
            FALCO_CORRELATOR_SINKS__FALCOSIDEKICK__URL=sidekick.url,
            FALCO_CORRELATOR_PASS_THROUGH__MODE="none",  # noqa: S106 - no password
            FALCO_CORRELATOR_ADMIN__ENABLED="true",
            FALCO_CORRELATOR_ADMIN__PORT=str(admin),
        )
        post_all(victim.port, attack(rule, "before"))
        wait_until(lambda: "before" in critical_places(sidekick))
        old = of_incidents(sidekick)[-1]["incident.id"]
        post_all(victim.port, _roots(roots))
        post_all(victim.port, attack(rule, "after"))
        began = time.monotonic()
        wait_until(lambda: "after" in critical_places(sidekick), 120)
        took = time.monotonic() - began
        shown = urllib.request.urlopen(f"http://127.0.0.1:{admin}/api/v1/incidents/{old}").status == 200
        victim.stop()
    others = [each for each in of_incidents(sidekick) if each.get("container.name") not in ("before", "after")]
    return BesideAFlood(took, shown, len(others))


def _roots(count: int) -> Iterator[bytes]:
    for number in range(count):
        body = flood(number)
        yield from (body, body.replace(b"web_shell", b"network"))


@contextmanager
def largest(folder: Path) -> Iterator[list[int]]:
    """Bytes of all files of a folder, the most that was seen, while the block runs."""
    most, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            sizes = [file.stat().st_blocks * 512 for file in folder.iterdir() if file.exists()]
            most[0] = max(most[0], sum(sizes))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield most
    finally:
        done.set()
        watching.join()


class Filled(NamedTuple):
    """The most bytes of the state folder, whether pressure was reported, and the incidents that were dropped."""

    largest: int
    reports: set[str]
    log: str


def fill_the_volume(folder: Path, *, detections: int, incidents: int) -> Filled:
    """F6: long texts of control characters in one container, then so many incidents of others while the sink is down."""
    place = folder / "state"
    place.mkdir()
    with falcosidekick.running() as sidekick:
        sidekick.behave = lambda _: 503
        victim = Victim(
            folder,
            free_port(),
            FALCO_CORRELATOR_SINKS__FALCOSIDEKICK__URL=sidekick.url,
            FALCO_CORRELATOR_SINKS__FILE__PATH="",
            FALCO_CORRELATOR_PASS_THROUGH__MODE="all",  # noqa: S106 - no password
            FALCO_CORRELATOR_STATE__PATH=str(place / "state.db"),
        )
        with largest(place) as most:
            post_all(victim.port, _hostile(detections))
            post_all(victim.port, _incidents(incidents))
            sidekick.behave = lambda _: None
            wait_until(lambda: any("budget" in event.get("output", "") for event in list(sidekick.events)), 300)
        victim.stop()
    reports = {event["output"] for event in sidekick.events if "budget" in event.get("output", "")}
    return Filled(most[0], reports, (folder / "log.jsonl").read_text())


def _hostile(count: int) -> Iterator[bytes]:
    for number in range(count):
        event = json.loads(flood(number))
        event["output_fields"] |= dict.fromkeys(("proc.cmdline", "fd.name", "proc.exepath"), f"{number} {CONTROL}")
        yield json.dumps(event).encode()


def _incidents(count: int) -> Iterator[bytes]:
    for number in range(count):
        body = flood(number, f"{number:012x}").replace(b"sh -c ", b"sh -c " + b"x" * 400)
        yield from (body, body.replace(b"web_shell", b"network"))
