"""Outbox, delivery and state file against an oracle, while the disk fails in every way that it can.

Every decided message reaches its sink; the steps of an incident arrive in order; a message is accepted twice only after
a crash that happened while the disk could not be written.

Covers: `delivery.schedule`.
"""

import asyncio
import contextlib
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import Clock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from support.messages import note

from sidecar.delivery.outbox import Outbox
from sidecar.delivery.sink_queue import Delivery
from sidecar.errors import Refused, SinkError
from sidecar.model import Notification, Outgoing, Severity, delivery_key
from sidecar.storage.state import State

SEVERITIES: tuple[Severity, ...] = ("medium", "high", "critical")

FAULTS = ("slow", "full", "locked", "read-only", "deleted", "fails before", "fails after")


WRITING = ("write",)


class Recorder:
    """A sink that behaves as it is told, and notes each attempt with its time."""

    name = "recorder"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.accepted: list[str] = []
        self.refused: set[str] = set()
        self.attempts: list[tuple[str, float]] = []
        self.failure: Exception | None = None

    async def send(self, out: Outgoing) -> None:
        self.attempts.append((out.key, self.clock.now))
        if isinstance(self.failure, Refused):
            self.refused.add(out.key)
        if self.failure is not None:
            raise self.failure
        self.accepted.append(out.key)

    def close(self) -> None:
        pass


class Disk:
    """The state file, and what is wrong with it. While it is slow, what is to be written waits."""

    def __init__(self, folder: Path) -> None:
        self._jobs: list[Callable[[], None]] = []
        self.path = folder / "state.db"
        self.fault = ""
        self._other: sqlite3.Connection | None = None
        self.open()

    def run(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        def written() -> None:
            try:
                outcome = job()
            except Exception as error:
                outcome = error
            done(outcome)

        self._jobs.append(written)
        self._work()

    def soon(self, callback: Callable[[], None]) -> None:
        callback()

    def _work(self) -> None:
        while self._jobs and self.fault != "slow":
            self._jobs.pop(0)()

    def open(self) -> None:
        self._jobs.clear()
        self.state = State(self.path, keep=1e9)

    def fail(self, fault: str) -> None:
        self.mend()
        self.fault = fault
        if fault.startswith("fails"):
            for name in WRITING:
                setattr(self.state, name, failing(getattr(self.state, name), after=fault == "fails after"))
        else:
            {
                "slow": lambda: None,
                "full": self._fill,
                "locked": self._lock,
                "read-only": self._protect,
                "deleted": self._delete,
            }[fault]()

    def _fill(self) -> None:
        (pages,) = self.state._db.execute("PRAGMA page_count").fetchone()
        self.state._db.execute(f"PRAGMA max_page_count = {pages}")

    def _lock(self) -> None:
        self._other = sqlite3.connect(self.path, isolation_level=None)
        self._other.execute("BEGIN IMMEDIATE")

    def _protect(self) -> None:
        self.state._db.execute("PRAGMA query_only = ON")

    def _delete(self) -> None:
        for file in self.path.parent.glob("state.db*"):
            if file.suffix != ".lock":
                file.unlink()

    def mend(self) -> None:
        if self._other is not None:
            self._other.close()
            self._other = None
        with contextlib.suppress(sqlite3.Error):
            self.state._db.execute("PRAGMA query_only = OFF")
            self.state._db.execute("PRAGMA max_page_count = 1000000")
        for name in WRITING:
            self.state.__dict__.pop(name, None)
        self.fault = ""
        self._work()

    def kill(self) -> None:
        self._jobs.clear()
        self.state.close()
        self.mend()


def failing(method: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    """As a failing fsync: the change was made, or not, and either way an error is reported."""

    def fails(*arguments: Any, **named: Any) -> None:
        if after:
            method(*arguments, **named)
        raise sqlite3.OperationalError("disk I/O error")

    return fails


class OutboxUnderFaults(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.sink = Recorder(self.clock)
        self.disk = Disk(self.folder)
        self.decided: list[Notification] = []
        self.steps: Counter[int] = Counter()
        self.crashes_in_trouble = 0
        self.dropped = 0
        self.start()

    def start(self) -> None:
        async def make() -> Delivery:
            return Delivery(self.sink, 3, self.clock, self.sleep)

        self.delivery = self.loop.run_until_complete(make())
        self.outbox = Outbox(self.disk.state, [self.delivery], timer=self.clock)
        self.outbox.use_disk(self.disk)
        self.outbox.resume()
        for message in self.decided:  # what the replay of the alerts comes to
            self.outbox.decide([message])
        self.outbox.resumed()

    async def sleep(self, seconds: float) -> None:
        self.clock.now += max(seconds, 0.001)

    @rule(incident=st.integers(0, 5))
    def decide(self, incident: int) -> None:
        if self.steps[incident] < len(SEVERITIES):
            message = note(f"{incident:016x}", SEVERITIES[self.steps[incident]], container=f"c{incident % 2}")
            self.steps[incident] += 1
            self.decided.append(message)
            self.outbox.decide([message])

    @precondition(lambda self: self.delivery.pending)
    @rule(failure=st.sampled_from([None, None, SinkError("503"), RuntimeError("a bug"), Refused("400")]))
    def attempt(self, failure: Exception | None) -> None:
        self.sink.failure = failure
        self.loop.run_until_complete(self.delivery.work())

    @rule(fault=st.sampled_from(FAULTS))
    def fail(self, fault: str) -> None:
        self.disk.fail(fault)

    @rule()
    def mend(self) -> None:
        self.disk.mend()

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.outbox.check()

    @rule()
    def crash(self) -> None:
        if self.disk.fault or self.outbox.trouble:
            self.crashes_in_trouble += 1
        if not self.disk.path.exists():
            self.clock.now += 10
            self.outbox.check()  # it is noticed within a second
        self.disk.kill()
        self.disk.open()
        self.start()

    def teardown(self) -> None:
        self.disk.mend()
        self.clock.now += 60
        self.outbox.check()
        self.sink.failure = None
        while self.delivery.pending:
            self.loop.run_until_complete(self.delivery.work())
        self.clock.now += 60
        self.outbox.check()
        left = self.disk.state.pending("recorder")
        self.disk.kill()
        self.loop.close()
        shutil.rmtree(self.folder)
        self.judge()
        assert left == []

    def judge(self) -> None:
        keys = [delivery_key(message, "recorder") for message in self.decided]
        times = Counter(self.sink.accepted)
        assert set(keys) == set(times) | self.sink.refused
        assert all(count <= 1 + self.crashes_in_trouble for count in times.values())
        for incident in self.steps:
            first = list(dict.fromkeys(key for key in self.sink.accepted if key.startswith(f"{incident:016x}:")))
            assert first == sorted(first, key=lambda key: SEVERITIES.index(key.split(":")[1]))
        for key in times:
            at = [time for name, time in self.sink.attempts if name == key]
            assert all(later - earlier >= 0.1 for earlier, later in pairwise(at)) or (self.crashes_in_trouble)


TestOutboxUnderFaults = pytest.mark.slow(OutboxUnderFaults.TestCase)
TestOutboxUnderFaults.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
