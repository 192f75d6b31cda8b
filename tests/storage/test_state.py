"""What survives a crash, and what happens when the disk does not."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Serving, fed, spec

from sidecar.cli.stories import alerts
from sidecar.delivery.outbox import Outbox
from sidecar.rules.rule import CorrelationRule
from sidecar.service.service import Service
from sidecar.settings.schema import Settings
from sidecar.sinks import Outgoing
from sidecar.storage.archive import Wanted
from sidecar.storage.state import MOST, SHARE, Decided, Position, State, StateError

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
            service.take_json(body)
        await asyncio.sleep(0.02)
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
    from sidecar.correlation.pipeline import Pipeline

    pipeline = Pipeline(rules, lambda: 0.0, None, Outbox(state, []).remember)
    for body in alerts(rule, [SHELL, PYTHON]):
        pipeline.feed_json(body)
    state.close()

    assert [case for _, case in lived(path, rules, [])] == ["Shell Execution Detected"]


def test_an_alert_that_comes_again_after_a_crash_is_a_duplicate(
    tmp_path: Path, rules: list[CorrelationRule], rule: CorrelationRule, state: State
) -> None:
    from sidecar.correlation.pipeline import Pipeline

    (body,) = alerts(rule, [SHELL])
    Pipeline(rules, lambda: 0.0, None, Outbox(state, []).remember).feed_json(body)
    again = Pipeline(rules, lambda: 0.0, None, Outbox(state, []).remember)
    for name, kept in state.recall():
        import msgspec

        from sidecar.model import Alert

        again.restore(name, msgspec.json.decode(kept, type=Alert))
    again.feed_json(body)

    assert dict(again.reasons) == {"duplicate": 1}


def test_a_key_is_decided_once(state: State) -> None:
    assert {"a"} == state.decide([Decided("a", "s", b"1")])
    assert {"b"} == state.decide([Decided("a", "s", b"2"), Decided("b", "s", b"3")])
    assert [row.body for row in state.pending("s", 10)] == [b"1", b"3"]


def test_what_is_delivered_is_no_longer_pending(state: State) -> None:
    state.decide([Decided("a", "s", b""), Decided("b", "s", b"")])
    state.delivered("a")

    assert [row.key for row in state.pending("s", 10)] == ["b"]


def test_old_alerts_and_delivered_notifications_are_forgotten_and_pending_ones_never(state: State, wall: Wall) -> None:
    state.remember(b"old", "c", b"")
    state.decide([Decided("done", "s", b""), Decided("open", "s", b"")])
    state.delivered("done")
    wall.now += 2 * 3600 + 1
    state.remember(b"new", "c", b"")
    state.prune()

    assert [name for name, _ in state.recall()] == [b"new"]
    assert {"done"} == state.decide([Decided("done", "s", b""), Decided("open", "s", b"")])


@pytest.mark.slow
def test_a_container_that_floods_the_file_gives_its_own_oldest_alerts(state: State) -> None:
    state.remember(b"victim", "quiet", b"")
    for number in range(MOST + 10):
        state.remember(b"%d" % number, "loud", b"")
    state.prune()
    kept = [name for name, _ in state.recall()]

    assert b"victim" in kept
    assert len(kept) == SHARE + 1


def test_a_position_is_kept_only_together_with_the_alerts_before_it(state: State) -> None:
    def broken() -> None:
        with state.reading("f", lambda: Position(1, 20)):
            state.remember(b"b", "c", b"")
            raise RuntimeError

    with state.reading("f", lambda: Position(1, 10)):
        state.remember(b"a", "c", b"")
    with pytest.raises(RuntimeError):
        broken()

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

    assert "the state file is broken" in caplog.text
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


def test_the_lock_keeps_a_second_service_out(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    import sidecar.storage.state

    with pytest.raises(StateError, match="another service uses this state"):
        sidecar.storage.state._locked(tmp_path / "state.db.lock", patience=0)


def test_when_the_disk_fails_it_goes_on_in_memory_says_so_and_recovers(
    state: State, monkeypatch: pytest.MonkeyPatch, rule: CorrelationRule, rules: list[CorrelationRule]
) -> None:
    from sidecar.correlation.pipeline import Pipeline

    outbox = Outbox(state, [])
    pipeline = Pipeline(rules, lambda: 0.0, None, outbox.remember)
    shell, python = alerts(rule, [SHELL, PYTHON])

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(state, "remember", full)
        pipeline.feed_json(shell)
        assert outbox.trouble == "database or disk is full"
    pipeline.feed_json(python)

    assert outbox.trouble == ""
    assert len(pipeline.settle()) == 1


def test_while_the_disk_fails_incidents_are_shown_from_memory_and_are_in_the_file_afterwards(
    state: State, monkeypatch: pytest.MonkeyPatch, rule: CorrelationRule, rules: list[CorrelationRule]
) -> None:
    from sidecar.correlation.pipeline import Pipeline

    outbox, pipeline = Outbox(state, []), Pipeline(rules, lambda: 0.0)
    note, later = (fed(pipeline, alerts(rule, [shell, python])) for shell, python in OF_TWO)

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(state, "decide", full)
        outbox.decide(note)
        assert [row.id for row in outbox.archive.listed(Wanted(), 0)[0]] == [note[0].incident]
    outbox.decide(later)

    assert outbox.archive is state.archive
    assert outbox.archive.listed(Wanted(), 0)[1] == 2


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
    told = [json.loads(line)["rule"] for line in sink.read_text().splitlines()]

    assert sorted(told) == ["Correlator degraded", "Shell Execution Detected"]
    assert "database or disk is full" in sink.read_text()


@pytest.mark.parametrize("broken", ["file", "folder"])
def test_a_service_whose_state_is_broken_or_out_of_reach_starts_and_says_so(
    serving: Serving, tmp_path: Path, broken: str
) -> None:
    sink, path = tmp_path / "incidents.jsonl", tmp_path / "state.db"
    if broken == "file":
        path.write_bytes(b"garbage" * 1000)
    else:
        path.mkdir()
    with serving({"state": {"path": str(path)}, "sinks": {"file": {"path": str(sink)}}}):
        pass

    assert "Correlator degraded" in sink.read_text()
    assert ("state.db.corrupt-" if broken == "file" else "going on in memory") in sink.read_text()
