"""Who serves stays known over restarts, longer than the alerts that told of it."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import spec

from sidecar.cli.testing.stories import BEGIN, alerts
from sidecar.correlation.memory import servers as memory
from sidecar.correlation.memory.process import Process
from sidecar.model import Alert, Fields, Severity
from sidecar.rules.rule import CorrelationRule
from sidecar.service.service import Service
from sidecar.settings.schema import Settings
from sidecar.storage import servers as stored
from sidecar.storage.servers import ServerRows
from sidecar.storage.state import State

SECOND = 1_000_000_000
HOUR = 3600 * SECOND

WATCHED = BEGIN
SERVER = BEGIN + HOUR
JOB = BEGIN + 2 * HOUR
STOPPED = BEGIN + 10 * HOUR


def listening(pid: int, at: int) -> Alert:
    fields = Fields(container_id="c1", pid=pid, start=at - SECOND, evt_type="listen", name="node", exepath="/bin/node")
    return Alert(at, "node-1", "Program listens on a port", (memory.SERVING_TAG,), fields)


def process(pid: int, at: int) -> Process:
    return Process(pid, "node", at - SECOND, 1, 0, 0)


def lived(
    path: Path,
    rules: list[CorrelationRule],
    began: int,
    ended: int,
    run: str,
    use: Callable[[Service], None] = lambda _: None,
) -> None:
    """One run of the service on a state file; `began` and `ended` (ns) are by its clock."""

    async def life() -> None:
        now = [began]
        settings = Settings()
        settings.http.enabled = settings.admin.enabled = settings.canary.enabled = False
        state = State(path, keep=1e9, wall=lambda: now[0] / 1e9, run=run)
        service = Service(settings, rules, [], state)
        await service.start()
        use(service)
        now[0] = ended
        await service.stop()

    asyncio.run(life())


def watches(service: Service) -> None:
    service.pipeline.servers.record(listening(5, WATCHED))
    service.pipeline.servers.record(listening(6, SERVER))


@pytest.mark.parametrize(
    ("away", "run", "known"),
    [(60, "second", True), (60, "first", True), (3600, "first", True), (3600, "second", False)],
)
def test_a_job_stays_known_over_a_restart_unless_nobody_watched_for_long(
    tmp_path: Path, rules: list[CorrelationRule], away: int, run: str, *, known: bool
) -> None:
    found = []

    def judge(service: Service) -> None:
        servers = service.pipeline.servers
        found.append(
            (servers.listens("node-1", "c1", process(6, SERVER), STOPPED), servers.was_watched("node-1", "c1", JOB))
        )

    lived(tmp_path / "state.db", rules, WATCHED - HOUR, STOPPED, "first", watches)
    lived(tmp_path / "state.db", rules, STOPPED + away * SECOND, STOPPED + 2 * HOUR, run, judge)

    assert found == [(True, known)]


@pytest.mark.parametrize(("listens", "severity"), [(False, None), (True, "medium")])
def test_a_shell_of_a_job_is_silent_and_one_of_a_server_an_incident_after_a_restart(
    tmp_path: Path, rules: list[CorrelationRule], rule: CorrelationRule, *, listens: bool, severity: Severity | None
) -> None:
    start = {"proc.exepath": "/bin/dash", "proc.aexepath[2]": "/sbin/tini", "proc.pexepath": "/usr/local/bin/node"}
    born = {"proc.pid.ts": STOPPED + 70 * SECOND, "proc.ppid.ts": JOB}
    shell = spec("tini > node > sh", "web_shell", at="36300s", fields=start | born)
    steps = [shell, spec("tini > node > sh > curl", "network", at="36301s")]
    severities: list[Severity] = []

    def before(service: Service) -> None:
        watches(service)
        if listens:
            fields = Fields(container_id=container, pid=pid, start=JOB, evt_type="listen", name="node")
            service.pipeline.servers.record(Alert(JOB + 1, "node-1", "listens", (memory.SERVING_TAG,), fields))

    def after(service: Service) -> None:
        for body in bodies:
            severities.extend(note.severity for note in service.pipeline.process_json(body)[1])
        severities.extend(note.severity for note in service.pipeline.flush())

    bodies = list(alerts(rule, steps))
    pid, container = _parent(bodies[0])
    lived(tmp_path / "state.db", rules, WATCHED - HOUR, STOPPED, "first", before)
    lived(tmp_path / "state.db", rules, STOPPED + 60 * SECOND, STOPPED + HOUR, "second", after)

    assert severities == ([severity] if severity else [])


def _parent(body: bytes) -> tuple[int, str]:
    from sidecar.alerts import decode

    fields = decode.envelope(body).alert().fields
    assert fields.ppid
    return fields.ppid, fields.container_id or ""


def test_drops_of_events_before_a_restart_leave_doubt_after_it(tmp_path: Path, rules: list[CorrelationRule]) -> None:
    found = []

    def drops(service: Service) -> None:
        watches(service)
        service.pipeline.servers.doubt("node-1", JOB + HOUR)

    lived(tmp_path / "state.db", rules, WATCHED - HOUR, STOPPED, "one", drops)
    lived(
        tmp_path / "state.db",
        rules,
        STOPPED,
        STOPPED,
        "one",
        lambda service: found.append(service.pipeline.servers.was_watched("node-1", "c1", JOB)),
    )

    assert found == [False]


@pytest.mark.slow
def test_rows_and_runs_are_bounded(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db", keep=1e9, wall=lambda: 1.0)
    for batch in range(5):
        numbers = range(batch * 4000, (batch + 1) * 4000)
        state.servers.put(
            ServerRows(
                {("h", "c", number): (1, 1, "") for number in numbers}, {f"h{number}": (1, 0) for number in numbers}
            )
        )
    for number in range(100):
        state.servers.begin_run(f"run {number}", number)
    rows, absences = state.servers.rows(), state.servers.absences()
    state.close()

    assert (len(rows.listening), len(rows.watched), len(absences)) == (16_384, 4096, 16)
    assert ("h", "c", 19_999) in rows.listening


def test_what_waits_for_a_file_that_fails_is_bounded() -> None:
    waiting = ServerRows()
    for number in range(20_000):
        waiting.add({("h", "c", number): (1, 1, "")}, {f"h{number}": (1, 0)}, [("h", "d", number)])

    assert (len(waiting.listening), len(waiting.watched)) == (stored.MAX_SERVERS, stored.MAX_HOSTS)
    assert len(waiting.evicted) == stored.MAX_SERVERS


def test_the_file_keeps_what_the_memory_keeps_and_loses_what_made_room(tmp_path: Path) -> None:
    assert stored.MAX_SERVERS > memory.MAX_SERVERS + memory.MAX_HOSTS
    assert stored.MAX_HOSTS == memory.MAX_HOSTS
    state = State(tmp_path / "state.db", keep=1e9, wall=lambda: 1.0)
    state.servers.put(ServerRows({("h", "c", 1): (1, 1, "/bin/node"), ("h", "c", 2): (1, 1, "")}))
    state.servers.put(ServerRows(evicted={("h", "c", 2): None}))
    listening = state.servers.rows().listening
    state.close()

    assert listening == {("h", "c", 1): (1, 1, "/bin/node")}


def test_a_damaged_row_costs_only_itself(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db", keep=1e9)
    state.servers.put(ServerRows({("h", "c", 1): (1, 1, "")}, {"h": (1, 0)}))
    state.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as db:
        db.execute("INSERT INTO servers VALUES (x'ff', 'c', 2, 'never', 1, '')")
        db.execute("INSERT INTO watched VALUES ('i', x'00', 0)")
        db.execute("INSERT INTO runs VALUES ('r', 'x', 'y')")
        db.commit()
    state = State(tmp_path / "state.db", keep=1e9)
    rows = state.servers.rows()
    state.close()

    assert rows == ServerRows({("h", "c", 1): (1, 1, "")}, {"h": (1, 0)})
