"""A real service on a disk whose sync takes two seconds, and how long it takes to answer there."""

import contextlib
import http.client
import sqlite3
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from conftest import needs, spec
from service.test_supervisor import free_port
from support import bare_server
from support.crash import Victim
from support.waiting import wait_until

from sidecar.cli.testing.stories import alerts
from sidecar.rules.rule import CorrelationRule
from sidecar.rules.spec import AlertSpec

SOURCE = Path(__file__).with_name("slow_sync.c")


class Answers(NamedTuple):
    """Seconds that answers took, in order of size, and those that a bare server took at the same time."""

    ours: list[float]
    bare: list[float]

    def over(self, share: float) -> float:
        """By how much we are slower than a bare server, of so large a share of the answers (1: the worst)."""
        return max(_at(self.ours, share) - _at(self.bare, share), 0.0)

    def __str__(self) -> str:
        shown = [f"{_at(self.ours, share) * 1000:.1f}" for share in (0.5, 0.99, 1)]
        bare = [f"{_at(self.bare, share) * 1000:.1f}" for share in (0.5, 0.99, 1)]
        return f"p50/p99/max {'/'.join(shown)} ms (bare server {'/'.join(bare)} ms)"


class OnSlowDisk(NamedTuple):
    """How long answers took, and how many of the incidents that were decided did not arrive."""

    answers: Answers
    lost: int


def _at(times: list[float], share: float) -> float:
    return times[min(int(len(times) * share), len(times) - 1)]


def answers_on_a_slow_disk(folder: Path, rule: CorrelationRule, *, count: int, rate: float) -> OnSlowDisk:
    """Post `count` attacks at `rate` alerts a second; each decides three steps of an incident of its own."""
    shim, slow = folder / "slow_sync.so", folder / "slow"
    subprocess.run([needs("cc"), "-shared", "-fPIC", "-O1", "-o", shim, SOURCE], check=True)
    victim = Victim(folder, free_port(), LD_PRELOAD=str(shim), SLOW_SYNC=str(slow))
    bodies = [body for number in range(count) for body in alerts(rule, _attack(f"c{number}"))]
    slow.touch()
    try:
        answers = posted(victim.port, bodies, rate)
        slow.unlink()
        wait_until(lambda: _arrived(victim) >= count, 120)
        return OnSlowDisk(answers, count - _arrived(victim))
    finally:
        slow.unlink(missing_ok=True)
        victim.stop()


def answers_beside_a_foreign_lock(folder: Path, rule: CorrelationRule, *, count: int, rate: float) -> OnSlowDisk:
    """The same while another program holds the write lock of the state file."""
    victim = Victim(folder, free_port())
    bodies = [body for number in range(count) for body in alerts(rule, _attack(f"c{number}"))]
    with contextlib.closing(sqlite3.connect(victim.state, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answers = posted(victim.port, bodies, rate)
    wait_until(lambda: _arrived(victim) >= count, 120)
    lost = count - _arrived(victim)
    victim.stop()
    return OnSlowDisk(answers, lost)


def _attack(container: str) -> list[AlertSpec]:
    return [
        spec("tini > nginx > sh", "web_shell", container=container),
        spec("tini > nginx > sh > curl", "network", at="1s", container=container),
        spec("tini > nginx > sh > cat", "credential", at="2s", container=container),
    ]


def posted(port: int, bodies: Iterable[bytes], rate: float) -> Answers:
    """Post alerts at a rate, and ask a bare server after each."""
    falco = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    answers = Answers([], [])
    began = time.monotonic()
    with bare_server.connected() as bare:
        for number, body in enumerate(bodies):
            time.sleep(max(began + number / rate - time.monotonic(), 0))
            for connection, times in ((falco, answers.ours), (bare, answers.bare)):
                sent = time.monotonic()
                connection.request("POST", "/", body)
                connection.getresponse().read()
                times.append(time.monotonic() - sent)
    falco.close()
    answers.ours.sort()
    answers.bare.sort()
    return answers


def _arrived(victim: Victim) -> int:
    return victim.sink.read_bytes().count(b'"incident.severity":"critical"') if victim.sink.exists() else 0
