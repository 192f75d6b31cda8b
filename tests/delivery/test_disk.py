"""The event loop never waits for the disk, and what was answered meanwhile survives a crash.

Covers: `delivery.unwritten`, `delivery.write`.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Clock, Serving, spec
from support.falcosidekick import Falcosidekick
from support.messages import note
from support.outage import DownAndUp
from support.slow_disk import answers_on_a_slow_disk
from support.waiting import wait_until

from sidecar.cli.testing.stories import alerts
from sidecar.delivery.disk import DiskThread
from sidecar.delivery.outbox import HANGS_SECONDS, MAX_UNMARKED, Outbox
from sidecar.delivery.sink_queue import Delivery
from sidecar.delivery.unwritten import UnwrittenAlerts
from sidecar.model import Alert, Fields
from sidecar.rules.rule import CorrelationRule
from sidecar.storage.state import Batch, KeptAlert, State, Written

ATTACK = [
    spec("tini > nginx > sh", "web_shell"),
    spec("tini > nginx > sh > curl", "network", at="1s"),
    spec("tini > nginx > sh > cat", "credential", at="2s"),
]

ALERT = Alert(0, "node-1", "rule", (), Fields())


class Hanging:
    """A disk that does nothing until it is told to."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def run(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        def do() -> None:
            done(job())

        self.jobs.append(do)

    def soon(self, callback: Callable[[], None]) -> None:
        callback()


@pytest.mark.slow
def test_alerts_and_probes_are_answered_while_the_disk_hangs_and_the_incident_follows(
    serving: Serving,
    sidekick: Falcosidekick,
    rule: CorrelationRule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    let_go, write = threading.Event(), State.write

    def slow(state: State, batch: Batch) -> Written:
        let_go.wait(60)
        return write(state, batch)

    settings = {
        "sinks": {"falcosidekick": {"url": sidekick.url}},
        "state": {"path": str(tmp_path / "state.db")},
        "pass_through": {"mode": "none"},
    }
    with serving(settings) as service:
        monkeypatch.setattr(State, "write", slow)
        statuses = [service.post(body) for body in alerts(rule, ATTACK)]
        alive, _ = service.get("/healthz")
        pages, _ = service.get("/incidents")
        sent_before = len(sidekick.events)
        let_go.set()
        sidekick.wait_for(1)

    assert (statuses, alive, pages) == ([200, 200, 200], 200, 200)
    assert sent_before == 0
    assert sidekick.events[-1]["output_fields"]["incident.severity"] == "critical"


@pytest.mark.slow
def test_every_statement_that_writes_runs_in_another_thread(
    serving: Serving, sidekick: Falcosidekick, rule: CorrelationRule, tmp_path: Path
) -> None:
    settings = {"sinks": {"falcosidekick": {"url": sidekick.url}}, "state": {"path": str(tmp_path / "state.db")}}
    with serving(settings) as service:
        state, threads = service.service._state, set[str]()
        assert state is not None
        state._db.set_trace_callback(lambda _: threads.add(threading.current_thread().name))
        for body in alerts(rule, ATTACK):
            service.post(body)
        sidekick.wait_for(1)
        wait_until(lambda: threads)
        state._db.set_trace_callback(None)

    assert all(name.startswith("disk") for name in threads), threads


def test_what_was_answered_while_the_disk_hung_is_there_after_a_crash(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db", keep=3600)
    outbox = Outbox(state, [])
    outbox.use_disk(Hanging())
    for number in range(100):
        outbox.remember(b"%d" % number, ALERT)
    state.close()

    state = State(tmp_path / "state.db", keep=3600)
    again, expected = Outbox(state, []), [b"%d" % number for number in range(100)]
    assert [name for name, _ in again.unwritten()] == expected
    again.close()

    assert [name for name, _ in state.recall()] == expected


def test_a_message_is_sent_only_once_it_is_in_the_file(tmp_path: Path) -> None:
    disk = Hanging()
    delivery = Delivery(DownAndUp(), 10)
    outbox = Outbox(State(tmp_path / "state.db", keep=3600), [delivery])
    outbox.use_disk(disk)
    outbox.decide([note("0" * 16)])
    before = delivery.pending
    disk.jobs.pop()()

    assert (before, delivery.pending) == (0, 1)


def test_a_disk_that_does_not_answer_holds_up_no_message_and_has_it_once_it_does(tmp_path: Path) -> None:
    disk, clock, reports = Hanging(), Clock(), list[str]()
    sink, state = DownAndUp(), State(tmp_path / "state.db", keep=3600)
    sink.is_down = False
    delivery = Delivery(sink, 10, clock)
    outbox = Outbox(state, [delivery], timer=clock)
    outbox.trouble.on_report = reports.append
    outbox.use_disk(disk)
    outbox.decide([note("0" * 16)])
    clock.now = HANGS_SECONDS + 1
    outbox.check()
    outbox.decide([note("1" * 16)])
    for _ in range(2):
        asyncio.run(delivery.work())
    for _ in range(3):
        disk.jobs.pop(0)()
        outbox.check()
    found = [state.archive.find(name * 16) for name in "01"]

    assert sink.accepted == [f"{'0' * 16}:medium:sink", f"{'1' * 16}:medium:sink"]
    assert reports == ["the state file cannot be used, continuing in memory: the disk does not answer"]
    assert (outbox.trouble.reason, state.pending("sink"), None in found) == ("", [], False)


def test_no_more_than_a_few_messages_are_sent_before_the_file_says_so(tmp_path: Path) -> None:
    disk, clock, sink = Hanging(), Clock(), DownAndUp()
    sink.is_down = False
    state = State(tmp_path / "state.db", keep=3600)

    async def sleep(_: float) -> None:
        pass

    delivery = Delivery(sink, 10, clock, sleep)
    outbox = Outbox(state, [delivery], timer=clock)
    outbox.decide([note(f"{number:016x}", container=f"c{number}") for number in range(9)])
    outbox.use_disk(disk)
    accepted = []
    for _ in range(3):
        for _ in range(9):
            asyncio.run(delivery.work())
        accepted.append(len(sink.accepted))
        disk.jobs.pop(0)()
    state.close()

    assert accepted == [MAX_UNMARKED, MAX_UNMARKED + 1, 2 * MAX_UNMARKED]


def test_what_comes_during_a_write_is_written_by_the_next_one(tmp_path: Path) -> None:
    disk = Hanging()
    state = State(tmp_path / "state.db", keep=3600)
    outbox = Outbox(state, [])
    outbox.use_disk(disk)
    for name in (b"one", b"two", b"three"):
        outbox.remember(name, ALERT)
    jobs = len(disk.jobs)
    while disk.jobs:
        disk.jobs.pop()()

    assert jobs == 1
    assert [name for name, _ in state.recall()] == [b"one", b"two", b"three"]
    assert outbox.is_settled


def test_a_write_that_fails_keeps_order_and_writes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(tmp_path / "state.db", keep=3600)
    now = [0.0]
    outbox = Outbox(state, [], timer=lambda: now[0])

    def full(_: Batch) -> Written:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(state, "write", full)
        outbox.remember(b"one", ALERT)
        outbox.remember(b"two", ALERT)
    now[0] = 10.0
    outbox.remember(b"three", ALERT)

    assert [name for name, _ in state.recall()] == [b"one", b"two", b"three"]
    assert outbox.trouble.reason == ""


def test_beyond_its_bytes_the_oldest_alert_is_given_up_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.delivery.unwritten.MAX_UNWRITTEN_BYTES", 100)
    waiting = UnwrittenAlerts(tmp_path / "ring")
    for number in range(5):
        waiting.add(KeptAlert(b"%d" % number, "c", b"x" * 40, anchors=False))

    assert [alert.name for alert in waiting] == [b"3", b"4"]
    assert waiting.lost == 3
    waiting.close()


def test_an_alert_that_the_ring_has_no_room_for_is_counted_as_unprotected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.delivery.unwritten.MAX_ALERT_RING_BYTES", 4096 + 100)
    waiting = UnwrittenAlerts(tmp_path / "ring")
    for _ in range(2):
        waiting.add(KeptAlert(b"name", "c", b"x" * 40, anchors=False))

    assert (len(waiting), waiting.unprotected) == (2, 1)
    waiting.close()


def test_what_is_written_while_the_service_stops_is_written_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state = State(tmp_path / "state.db", keep=3600)
    outbox = Outbox(state, [])

    async def run() -> None:
        disk = DiskThread(asyncio.get_running_loop())
        outbox.use_disk(disk)
        outbox.remember(b"waits", ALERT)
        await disk.stop()
        outbox.remember(b"comes later", ALERT)
        outbox.write()
        await asyncio.sleep(0)
        outbox.close()
        outbox.write()  # which was due

    asyncio.run(run())
    state.close()

    kept = State(tmp_path / "state.db", keep=3600)
    assert [name for name, _ in kept.recall()] == [b"waits", b"comes later"]
    assert caplog.text == ""
    kept.close()


@pytest.mark.slow
def test_no_incident_is_lost_on_a_disk_whose_sync_takes_two_seconds(tmp_path: Path, rule: CorrelationRule) -> None:
    assert answers_on_a_slow_disk(tmp_path, rule, count=20, rate=100).lost == 0
