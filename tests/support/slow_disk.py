"""A real service on a disk whose sync takes two seconds, and how long it takes to answer there."""

import http.client
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from conftest import needs, spec
from service.test_supervisor import free_port
from support.crash import Victim
from support.waiting import wait_until

from sidecar.cli.testing.stories import alerts
from sidecar.rules.rule import CorrelationRule
from sidecar.rules.spec import AlertSpec

SOURCE = Path(__file__).with_name("slow_sync.c")


class OnSlowDisk(NamedTuple):
    """The worst answer in seconds, and how many of the incidents that were decided did not arrive."""

    worst: float
    lost: int


def answers_on_a_slow_disk(folder: Path, rule: CorrelationRule, *, count: int, rate: float) -> OnSlowDisk:
    """Post `count` attacks at `rate` alerts a second; each decides three steps of an incident of its own."""
    shim, slow = folder / "slow_sync.so", folder / "slow"
    subprocess.run([needs("cc"), "-shared", "-fPIC", "-O1", "-o", shim, SOURCE], check=True)
    victim = Victim(folder, free_port(), LD_PRELOAD=str(shim), SLOW_SYNC=str(slow))
    bodies = [body for number in range(count) for body in alerts(rule, _attack(f"c{number}"))]
    slow.touch()
    try:
        worst = _worst(victim.port, bodies, rate)
        slow.unlink()
        wait_until(lambda: _arrived(victim) >= count, 60)
        return OnSlowDisk(worst, count - _arrived(victim))
    finally:
        slow.unlink(missing_ok=True)
        victim.stop()


def _attack(container: str) -> list[AlertSpec]:
    return [
        spec("tini > nginx > sh", "web_shell", container=container),
        spec("tini > nginx > sh > curl", "network", at="1s", container=container),
        spec("tini > nginx > sh > cat", "credential", at="2s", container=container),
    ]


def _worst(port: int, bodies: list[bytes], rate: float) -> float:
    falco, worst, began = http.client.HTTPConnection("127.0.0.1", port, timeout=20), 0.0, time.monotonic()
    for number, body in enumerate(bodies):
        time.sleep(max(began + number / rate - time.monotonic(), 0))
        sent = time.monotonic()
        falco.request("POST", "/", body)
        falco.getresponse().read()
        worst = max(worst, time.monotonic() - sent)
    falco.close()
    return worst


def _arrived(victim: Victim) -> int:
    return victim.sink.read_bytes().count(b'"incident.severity":"critical"') if victim.sink.exists() else 0
