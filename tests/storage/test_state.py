"""What survives a crash, and what happens when the disk does not.

Covers: `service.service`, `service.restore`, `delivery.outbox`.
"""

import asyncio
import contextlib
import json
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cli.test_main import COMMAND
from conftest import Clock, Serving, fed, spec
from msgspec.structs import asdict
from support.waiting import until_true

from sidecar.alerts import decode
from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.delivery.outbox import Outbox
from sidecar.model import Alert, Message, Outgoing
from sidecar.rules.rule import CorrelationRule
from sidecar.service.service import Service
from sidecar.settings.schema import Settings
from sidecar.storage import state as state_module
from sidecar.storage.archive import IncidentFilter
from sidecar.storage.opening import lock
from sidecar.storage.state import Batch, DiskError, KeptAlert, Position, State, StateError

SHELL = spec("tini > nginx > sh", "web_shell")
PYTHON = spec("tini > nginx > sh > python3", "shell_technique", at="1s")
OF_TWO = [
    (
        spec("tini > nginx > sh", "web_shell", container=c),
        spec("tini > nginx > sh > nc", "network", container=c, at="1s"),
    )
    for c in ("a", "b")
]
CAT = spec("tini > nginx > sh > cat", "credential", at="2s")


class Wall:
    """A time of day that a test turns by hand, in seconds."""

    now = 1_795_489_388.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def state(tmp_path: Path, wall: Wall) -> Iterator[State]:
    opened = State(tmp_path / "state.db", keep=3600, wall=wall)
    yield opened
    opened.close()


class Recorder:
    """A sink that takes everything, once it is told to."""

    name = "recorder"

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []

    async def send(self, out: Outgoing) -> None:
        self.taken.append((out.key, json.loads(out.body)["rule"]))

    def close(self) -> None:
        pass


def lived(
    path: Path, rules: list[CorrelationRule], bodies: list[bytes], *, delivers: bool = True
) -> list[tuple[str, str]]:
    """One life of the service on a state file, ended without a word; gives what the sink was sent."""

    async def life() -> list[tuple[str, str]]:
        sink, state = Recorder(), State(path, keep=90_000)
        settings = Settings()
        settings.http.enabled = settings.admin.enabled = False
        service = Service(settings, rules, [sink], state)
        if not delivers:
            service.deliveries[0].start = lambda: None  # type: ignore[method-assign]
        await service.start()
        for body in bodies:
            service.intake.take_json(body)
        service.intake.flush()
        await until_true(lambda: service.outbox.is_settled and not (delivers and service.deliveries[0].pending))
        state.close()
        return sink.taken

    return asyncio.run(life())


def test_partial_evidence_counts_on_after_a_crash(
    tmp_path: Path, rules: list[CorrelationRule], rule: CorrelationRule
) -> None:
    bodies = list(alerts(rule, [SHELL, PYTHON, CAT]))
    path = tmp_path / "state.db"

    assert [case for _, case in lived(path, rules, bodies[:2])] == ["Shell Execution Detected"]
    assert [case for _, case in lived(path, rules, bodies[2:])] == ["Full Web Application Compromise"]


def test_what_was_delivered_is_not_sent_again_after_a_crash(
    tmp_path: Path, rules: list[CorrelationRule], rule: CorrelationRule
) -> None:
    bodies = list(alerts(rule, [SHELL, PYTHON, CAT]))
    path = tmp_path / "state.db"

    assert len(lived(path, rules, bodies)) == 2
    assert lived(path, rules, bodies) == []


def test_what_was_decided_and_not_delivered_is_sent_after_a_crash(
    tmp_path: Path, rules: list[CorrelationRule], rule: CorrelationRule
) -> None:
    path = tmp_path / "state.db"
    lived(path, rules, list(alerts(rule, [SHELL, PYTHON, CAT])), delivers=False)

    assert [c for _, c in lived(path, rules, [])] == ["Shell Execution Detected", "Full Web Application Compromise"]


def test_an_escalation_that_was_cut_off_before_it_was_decided_is_decided_at_the_next_start(
    tmp_path: Path, rules: list[CorrelationRule], rule: CorrelationRule, wall: Wall
) -> None:
    path = tmp_path / "state.db"
    state = State(path, keep=90_000, wall=wall)

    pipeline = Pipeline(rules, lambda: 0.0, None, Outbox(state, []).remember)
    for body in alerts(rule, [SHELL, PYTHON]):
        pipeline.process_json(body)
    state.close()

    assert [case for _, case in lived(path, rules, [])] == ["Shell Execution Detected"]


def test_an_alert_that_comes_again_after_a_crash_is_a_duplicate(
    tmp_path: Path, rules: list[CorrelationRule], rule: CorrelationRule, state: State
) -> None:
    (body,) = alerts(rule, [SHELL])
    Pipeline(rules, lambda: 0.0, None, Outbox(state, []).remember).process_json(body)
    again = Pipeline(rules, lambda: 0.0, None, Outbox(state, []).remember)
    for name, kept in state.recall():
        again.restore(name, msgspec.json.decode(kept, type=Alert))
    again.process_json(body)

    assert dict(again.reasons) == {"duplicate": 1}


def test_an_alert_kept_before_falco_renamed_a_field_is_restored_with_the_new_one(
    rules: list[CorrelationRule], rule: CorrelationRule
) -> None:
    """The old name, here that of the remote address, has become a fallback since."""
    (body,) = alerts(rule, [SHELL])
    alert = decode.envelope(body).alert()
    alert.fields.remote_ip = None
    alert.fields.fallback_remote_ip = "203.0.113.9"
    Pipeline(rules, lambda: 0.0).restore(b"id", alert)

    assert asdict(alert.fields)["remote_ip"] == "203.0.113.9"
    assert asdict(alert.fields)["fallback_remote_ip"] is None


def test_a_key_is_decided_once(state: State) -> None:
    assert {"a:low:s"} == state.decide([Outgoing("a:low:s", b"1")])
    assert {"b:low:s"} == state.decide([Outgoing("a:low:s", b"2"), Outgoing("b:low:s", b"3")])
    assert [state.body(row.key) for row in state.pending("s")] == [b"1", b"3"]


def test_what_is_delivered_is_no_longer_pending(state: State) -> None:
    state.decide([Outgoing("a:low:s", b""), Outgoing("b:low:s", b"")])
    state.delivered("a:low:s")

    assert [row.key for row in state.pending("s")] == ["b:low:s"]


def test_old_alerts_and_delivered_notifications_are_forgotten_and_pending_ones_never(state: State, wall: Wall) -> None:
    state.remember(b"old", "c", b"")
    state.decide([Outgoing("done:low:s", b""), Outgoing("open:low:s", b"")])
    state.delivered("done:low:s")
    wall.now += 2 * 3600 + 1
    state.remember(b"new", "c", b"")
    state.prune()

    assert [name for name, _ in state.recall()] == [b"new"]
    assert {"done:low:s"} == state.decide([Outgoing("done:low:s", b""), Outgoing("open:low:s", b"")])


def test_a_container_that_floods_the_file_gives_its_own_oldest_alerts(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "MAX_ALERT_BYTES", 200_000)
    state.remember(b"victim", "quiet", b"")
    for number in range(3000):
        state.remember(b"%d" % number, "loud", b"")
    kept = [name for name, _ in state.recall()]

    assert b"victim" in kept
    assert b"2999" in kept
    assert 1000 < len(kept) < 200_000 / 150 + 2


def test_a_flood_of_one_container_leaves_its_evidence_that_contexts_hang_on_until_last(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "MAX_ALERT_BYTES", 200_000)
    state.remember(b"web shell", "loud", b"", anchors=True)
    for number in range(3000):
        state.remember(b"%d" % number, "loud", b"")

    assert b"web shell" in [name for name, _ in state.recall()]


def test_more_containers_than_the_file_has_room_for_leave_the_newest(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "MAX_ALERTS", 100)
    for number in range(150):
        state.remember(b"%d" % number, f"c{number}", b"")
    kept = [name for name, _ in state.recall()]

    assert kept[-1] == b"149"
    assert 80 <= len(kept) <= 100


def test_a_position_is_kept_only_together_with_the_alerts_before_it(state: State) -> None:
    state.write(Batch(alerts=[KeptAlert(b"a", "c", b"", anchors=False)], positions={"f": Position(1, 10)}))
    wrong: Any = {"f": Position(2**70, 20)}
    with pytest.raises(OverflowError):
        state.write(Batch(alerts=[KeptAlert(b"b", "c", b"", anchors=False)], positions=wrong))

    assert (Position(1, 10), [b"a"]) == (state.position("f"), [name for name, _ in state.recall()])


@pytest.mark.parametrize("damage", [b"garbage", b""], ids=["first page", "cut off"])
def test_a_broken_file_is_set_aside_and_the_service_starts_with_a_new_one(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"
    state = State(path, keep=3600)
    for number in range(1000):
        state.remember(b"%d" % number, "c", b"x" * 100)
    state.close()
    data = path.read_bytes()
    path.write_bytes(damage * 100 + data[len(damage) * 100 :] if damage else data[: len(data) // 2])
    State(path, keep=3600).close()

    assert "the state file is damaged" in caplog.text
    assert len(list(tmp_path.glob("state.db.corrupt-*"))) == 1


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StateError, match="newer version \\(schema 99"):
        State(path, keep=3600)

    assert path.exists()


def test_a_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="No such file or directory"):
        State(tmp_path / "missing" / "state.db", keep=3600)


def test_the_lock_keeps_a_second_service_out(tmp_path: Path, state: State) -> None:
    with pytest.raises(StateError, match="another instance is using this state file"):
        lock(tmp_path / "state.db.lock", patience=0)


def test_when_the_disk_fails_it_goes_on_in_memory_says_so_and_recovers(
    state: State, monkeypatch: pytest.MonkeyPatch, rule: CorrelationRule, rules: list[CorrelationRule]
) -> None:

    clock = Clock()
    outbox = Outbox(state, [], timer=clock)
    pipeline = Pipeline(rules, lambda: 0.0, None, outbox.remember)
    shell, python = alerts(rule, [SHELL, PYTHON])

    def full(*_: object, **_more: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(state, "remember", full)
        pipeline.process_json(shell)
        assert outbox.trouble.reason == "database or disk is full"
    clock.now = 1.0
    pipeline.process_json(python)
    outbox.check()

    assert outbox.trouble.reason == ""
    assert len([*state.recall()]) == 2
    assert len(pipeline.flush()) == 1


def test_while_the_disk_fails_incidents_are_shown_from_memory_and_are_in_the_file_afterwards(
    state: State, monkeypatch: pytest.MonkeyPatch, rule: CorrelationRule, rules: list[CorrelationRule]
) -> None:

    clock = Clock()
    outbox, pipeline = Outbox(state, [], timer=clock), Pipeline(rules, lambda: 0.0)
    note, later = (fed(pipeline, alerts(rule, [shell, python])) for shell, python in OF_TWO)

    def full(*_: object, **_more: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(state, "decide", full)
        outbox.decide(note)
        assert [row.id for row in outbox.archive.listed(IncidentFilter(), 0)[0]] == [note[0].incident]
    clock.now = 1.0
    outbox.decide(later)

    assert outbox.archive is state.archive
    assert outbox.archive.listed(IncidentFilter(), 0)[1] == 2


def test_the_file_and_its_lock_are_for_the_owner_only(tmp_path: Path, state: State) -> None:
    assert (tmp_path / "state.db.lock").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_told_to_the_sinks_once_and_detection_goes_on(
    serving: Serving, tmp_path: Path, rule: CorrelationRule
) -> None:
    sink = tmp_path / "incidents.jsonl"
    settings = {"state": {"path": str(tmp_path / "state.db")}, "sinks": {"file": {"path": str(sink)}}}

    async def fill_the_disk() -> None:
        database = service.service._state._db
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}")

    with serving(settings) as service:
        asyncio.run_coroutine_threadsafe(fill_the_disk(), service._loop).result(5)
        for number in range(40):
            for body in alerts(rule, [spec("tini > nginx > sh", "web_shell", container=f"c{number}")]):
                assert service.post(body) == 200
        for body in alerts(rule, [SHELL, PYTHON]):
            assert service.post(body) == 200
    sent_rules = [json.loads(line)["rule"] for line in sink.read_text().splitlines()]

    assert sorted(sent_rules) == ["Correlator degraded", "Shell Execution Detected"]
    assert "database or disk is full" in sink.read_text()


def test_a_service_whose_state_is_damaged_starts_and_says_so(serving: Serving, tmp_path: Path) -> None:
    sink, path = tmp_path / "incidents.jsonl", tmp_path / "state.db"
    path.write_bytes(b"garbage" * 1000)
    with serving({"state": {"path": str(path)}, "sinks": {"file": {"path": str(sink)}}}):
        pass

    assert "Correlator degraded" in sink.read_text()
    assert "state.db.corrupt-" in sink.read_text()


def test_a_service_whose_disk_is_full_starts_in_memory_and_says_so(
    serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise DiskError("No space left on device")

    monkeypatch.setattr(state_module, "lock", full)
    sink = tmp_path / "incidents.jsonl"
    with serving({"state": {"path": str(tmp_path / "state.db")}, "sinks": {"file": {"path": str(sink)}}}):
        pass

    assert "continuing in memory" in sink.read_text()


def foreign(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE customers (id)")


def newer(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (newer, "newer version (schema 99"),
        (foreign, "another program (tables customers)"),
        (Path.mkdir, "is not a regular file"),
    ],
)
def test_a_start_that_cannot_succeed_ends_with_2_and_the_reason_before_a_port_is_open(
    tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    path = tmp_path / "state.db"
    spoil(path)
    environment = {**os.environ, "FALCO_CORRELATOR_STATE__PATH": str(path)}
    environment |= {"FALCO_CORRELATOR_HTTP__PORT": "1", "FALCO_CORRELATOR_SINKS__STDOUT__ENABLED": "true"}
    done = subprocess.run([*COMMAND, "run"], env=environment, capture_output=True, text=True, timeout=20, check=False)

    assert done.returncode == 2
    assert reason in done.stderr
    assert not path.is_file() or path.stat().st_size  # left alone


@pytest.mark.parametrize("version", [0, -3])
def test_a_file_of_ours_whose_version_was_lost_is_set_aside(tmp_path: Path, version: int) -> None:
    path = tmp_path / "state.db"
    State(path, keep=3600).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    opened = State(path, keep=3600)
    opened.close()

    assert "corrupt-" in opened.set_aside


def test_only_one_damaged_file_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.db"
    (tmp_path / "state.db.corrupt-1").write_bytes(b"older")
    path.write_bytes(b"garbage" * 1000)
    State(path, keep=3600).close()

    assert [file.read_bytes()[:7] for file in tmp_path.glob("*.corrupt-*")] == [b"garbage"]


def test_a_file_of_schema_1_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(state_module.SCHEMAS[0])
        db.execute("INSERT INTO alerts VALUES (x'01', 1, 'c', x'02')")
        db.execute("INSERT INTO outbox (key, sink, body, at) VALUES ('i:low:s', 's', x'03', 1)")
        db.execute("PRAGMA user_version = 1")
        db.commit()
    opened = State(path, keep=1e12)
    kept = [*opened.recall()], opened.pending("s")
    incidents = opened.archive.listed(IncidentFilter(), 0)
    opened.close()

    assert kept == ([(b"\x01", b"\x02")], [("i:low:s", "", 1)])
    assert incidents == ([], 0)


def test_an_alert_in_the_file_that_cannot_be_read_is_set_aside_and_reported_and_the_others_count(
    tmp_path: Path, rules: list[CorrelationRule], rule: CorrelationRule
) -> None:
    path = tmp_path / "state.db"
    lived(path, rules, list(alerts(rule, [SHELL, PYTHON])), delivers=False)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO alerts VALUES (x'00', 1795489388, 'c', x'7b22', 0)")
        db.commit()
    sent = [case for _, case in lived(path, rules, [])]
    with contextlib.closing(sqlite3.connect(path)) as db:
        damaged = db.execute("SELECT what, body FROM damaged").fetchall()

    assert "Shell Execution Detected" in sent
    assert "Correlator degraded" in sent
    assert damaged == [("alert", b'{"')]


def test_a_replayed_alert_that_meets_a_bug_costs_only_itself(
    tmp_path: Path, rules: list[CorrelationRule], rule: CorrelationRule, monkeypatch: pytest.MonkeyPatch
) -> None:

    path = tmp_path / "state.db"
    lived(path, rules, list(alerts(rule, [SHELL, PYTHON, CAT])), delivers=False)
    restore = Pipeline.restore

    def buggy(pipeline: Pipeline, name: bytes, alert: Alert) -> list[Message]:
        if "python" in (alert.fields.cmdline or ""):
            raise RecursionError
        return restore(pipeline, name, alert)

    monkeypatch.setattr(Pipeline, "restore", buggy)

    assert "Correlator degraded" in [case for _, case in lived(path, rules, [])]


def test_a_file_that_is_deleted_while_in_use_is_written_again_and_reported(state: State, tmp_path: Path) -> None:
    reports: list[str] = []
    outbox = Outbox(state, [])
    outbox.trouble.on_report = reports.append
    state.remember(b"kept", "c", b"body")
    for file in tmp_path.glob("state.db*"):
        if file.suffix != ".lock":
            file.unlink()
    outbox.check()
    state.remember(b"later", "c", b"body")

    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as db:
        assert db.execute("SELECT id FROM alerts").fetchall() == [(b"kept",), (b"later",)]
    assert reports == ["the state file was deleted or replaced while in use; it was written again"]


def test_closing_a_state_file_twice_leaves_the_descriptors_of_others_alone(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db", keep=1e9)
    state.close()
    with (tmp_path / "other").open("wb") as other:
        state.close()

        other.write(b"x")
        other.flush()
