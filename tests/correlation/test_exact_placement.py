"""How detections are placed by the Falco plugin's ancestry, alone and mixed with alerts that lack it.

Covers: `correlation.membership`, `correlation.placement`, `alerts.ancestry`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from conftest import fed
from support.packed import GIGA, Seen, packed

from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents.falco_event import rfc3339, to_event
from sidecar.incidents.view import from_notification
from sidecar.model import Notification
from sidecar.rules.rule import CorrelationRule

BEGIN = 1_795_489_388
SHIM = Seen(50, (BEGIN - 7200) * GIGA, "/usr/bin/containerd-shim-runc-v2", known="p")
TINI = Seen(100, (BEGIN - 7200) * GIGA, "/sbin/tini", known="p")
NGINX = Seen(101, (BEGIN - 7100) * GIGA, "/usr/sbin/nginx", known="p", ports="80")
SHELL = Seen(102, BEGIN * GIGA, "/usr/bin/dash", "sh")
DAEMON = Seen(103, (BEGIN + 2) * GIGA, "/usr/bin/python3")
TAGS = {"W": "webrce_web_shell", "N": "webrce_network", "C": "webrce_credential"}


def alert(group: str, own: Seen, *above: Seen, **fields: Any) -> bytes:
    """An alert two seconds after its process started, whose classic fields show `adopted` or the true parent."""
    exact = fields.pop("exact", True)
    parents: Sequence[Seen] = fields.pop("shown", above)
    host = fields.pop("host", "node-1")
    place = {"container.id": fields.pop("container", "aaaaaaaaaaaa")}
    shown: dict[str, Any] = {"proc.pid": own.pid, "proc.pid.ts": own.start, "proc.sid": 1, "evt.type": "execve"}
    shown |= {"proc.name": own.name or own.file.rpartition("/")[2], "proc.cmdline": f"{own.file} {own.start}"}
    for step, each in enumerate(reversed(parents[-6:]), 1):
        shown[f"proc.aname[{step}]"] = each.name or each.file.rpartition("/")[2]
        shown["proc.ppid" if step == 1 else f"proc.apid[{step}]"] = each.pid
    if exact:
        shown["lineage.packed"] = packed(own, above)
    body = {
        "hostname": host,
        "priority": "Notice",
        "rule": group,
        "tags": [TAGS[group]],
        "time": rfc3339(own.start + 2 * GIGA),
        "output_fields": {**place, **shown, **fields},
    }
    return msgspec.json.encode(body)


def child(pid: int, file: str, seconds: float = 5) -> Seen:
    return Seen(pid, int((BEGIN + seconds) * GIGA), file)


@pytest.fixture
def pipeline(rule: CorrelationRule) -> Pipeline:
    return Pipeline([rule], lambda: 0.0)


def joins(notes: list[Notification]) -> list[str]:
    return [detection.join for detection, _ in notes[-1].timeline]


WEB_SHELL = alert("W", SHELL, SHIM, TINI, NGINX)


def test_a_daemon_whose_parents_are_gone_joins_by_ancestry(pipeline: Pipeline) -> None:
    curl = child(110, "/usr/bin/curl")
    notes = fed(pipeline, [WEB_SHELL, alert("N", curl, SHIM, TINI, NGINX, SHELL, DAEMON, shown=[SHIM, TINI])])

    assert joins(notes) == ["ancestry", "ancestry"]


def test_it_joins_when_the_web_shell_arrives_later(pipeline: Pipeline) -> None:
    curl = child(110, "/usr/bin/curl")
    early = alert("N", curl, SHIM, TINI, NGINX, SHELL, DAEMON, shown=[SHIM, TINI])

    assert joins(fed(pipeline, [early, WEB_SHELL])) == ["ancestry", "ancestry"]


CONTAINERD = Seen(40, (BEGIN - 9000) * GIGA, "/usr/bin/containerd", known="p", ports="36041")


@pytest.mark.parametrize("first_is_known", [True, False])
def test_a_runtime_that_serves_does_not_relate_who_enters_the_container(
    pipeline: Pipeline, first_is_known: bool
) -> None:
    """The plugin shows who started the container: containerd, which serves on a port."""
    admin = child(120, "/usr/bin/bash", -5)
    entered = [CONTAINERD, SHIM, admin]
    bodies = [
        *([alert("C", TINI, CONTAINERD, SHIM, **{"proc.vpid": 1})] if first_is_known else []),
        alert("W", SHELL, CONTAINERD, SHIM, TINI, NGINX),
        alert("N", child(121, "/usr/bin/curl"), *entered),
        alert("W", child(122, "/usr/bin/dash"), *entered),
        alert("C", child(123, "/usr/bin/cat"), *entered),
    ]

    assert fed(pipeline, bodies) == []


def test_a_process_that_calls_itself_a_runtime_does_not_cut_its_service_off(pipeline: Pipeline) -> None:
    fake = Seen(103, (BEGIN + 2) * GIGA, "/tmp/runc", "runc")
    curl = child(110, "/usr/bin/curl")
    bodies = [
        alert("W", SHELL, CONTAINERD, SHIM, TINI, NGINX),
        alert("N", curl, CONTAINERD, SHIM, TINI, NGINX, SHELL, fake),
    ]

    assert joins(fed(pipeline, bodies)) == ["ancestry", "ancestry"]


def test_neither_session_nor_orphan_is_considered_for_a_process_whose_fork_was_seen(pipeline: Pipeline) -> None:
    check = child(110, "/usr/bin/curl")
    guessed = Pipeline(pipeline.rules, lambda: 0.0)

    assert fed(guessed, [WEB_SHELL, alert("N", check, SHIM, TINI, exact=False)]) != []
    assert fed(pipeline, [WEB_SHELL, alert("N", check, SHIM, TINI)]) == []


@pytest.mark.parametrize("known", ["p", "l"])
def test_an_orphan_whose_fork_was_not_seen_is_still_considered(pipeline: Pipeline, known: str) -> None:
    orphan = child(110, "/usr/bin/curl")._replace(known=known)

    assert joins(fed(pipeline, [WEB_SHELL, alert("N", orphan, SHIM, TINI)])) == ["ancestry", "session"]


def test_what_the_entry_script_started_before_it_became_the_service_stays_out(pipeline: Pipeline) -> None:
    entry = Seen(100, (BEGIN - 7200) * GIGA, "/usr/bin/dash", "sh", known="p")
    master = entry._replace(file="/usr/sbin/nginx", name="")
    loop = child(120, "/usr/bin/dash", -7000)
    shell = alert("W", SHELL, SHIM, master)
    token = alert("C", child(121, "/usr/bin/cat"), SHIM, entry, loop, shown=[SHIM, master, loop])

    assert fed(pipeline, [shell, token]) == []


@pytest.mark.parametrize("exact", [True, False])
def test_below_a_service_that_the_entry_script_started_the_intruder_is_not_the_script(
    pipeline: Pipeline, exact: bool
) -> None:
    """`php-fpm & exec nginx`: what was started by a shell is below a web server now."""
    entry = Seen(100, (BEGIN - 7200) * GIGA, "/usr/bin/dash", "sh", known="p")
    master = entry._replace(file="/usr/sbin/nginx", name="")
    fpm = Seen(101, (BEGIN - 7199) * GIGA, "/usr/sbin/php-fpm8.2", known="f")
    worker = fpm._replace(pid=105)
    early = alert("C", child(106, "/usr/bin/id", -7000), SHIM, entry, fpm, exact=exact)
    shown = [SHIM, master, fpm, worker]
    shell = alert("W", SHELL, SHIM, entry, fpm, worker, shown=shown, exact=exact)
    curl = alert("N", child(110, "/usr/bin/curl"), SHIM, entry, fpm, worker, SHELL, shown=[*shown, SHELL], exact=exact)

    became = alert("C", master, SHIM, exact=exact, **{"proc.vpid": 1})

    assert [note.case for note in fed(pipeline, [early, became, shell, curl])] == ["Web Shell with Network Activity"]


def test_a_worker_joins_whatever_its_service_calls_itself(pipeline: Pipeline) -> None:
    """Its fork is older than the web shell, and the master has the name that it gave itself."""
    master = Seen(100, (BEGIN - 7200) * GIGA, "/usr/local/bin/node", "npm start", ports="80")
    worker = Seen(101, (BEGIN - 7100) * GIGA, "/usr/local/bin/node")
    bodies = [
        alert("W", SHELL, SHIM, master, worker),
        alert("N", child(110, "/usr/bin/curl"), SHIM, master, worker, SHELL),
    ]

    assert joins(fed(pipeline, bodies)) == ["ancestry", "ancestry"]


def test_a_process_with_the_pid_of_a_dead_web_shell_stays_out(pipeline: Pipeline) -> None:
    admin = Seen(SHELL.pid, SHELL.start + 60 * GIGA, "/bin/bash")
    curl = child(110, "/usr/bin/curl", 65)

    assert fed(pipeline, [WEB_SHELL, alert("N", curl, SHIM, admin)]) == []


def test_a_daemon_joins_although_the_pid_of_its_service_is_another_one_now(pipeline: Pipeline) -> None:
    other = Seen(NGINX.pid, SHELL.start + 60 * GIGA, "/bin/bash")
    bodies = [
        WEB_SHELL,
        alert("N", child(110, "/usr/bin/curl", 65), SHIM, other),
        alert("C", child(111, "/usr/bin/cat", 70), SHIM, TINI, NGINX, SHELL, DAEMON, shown=[SHIM, TINI]),
    ]
    notes = fed(pipeline, bodies)

    assert [note.case for note in notes] == ["Web Shell with Credential Theft"]


def test_an_anchor_that_was_evicted_from_lineage_is_recognised(pipeline: Pipeline) -> None:
    fed(pipeline, [WEB_SHELL])
    (container,) = pipeline.containers
    container.lineage.evict_old()
    container.lineage.evict_old()
    curl = child(110, "/usr/bin/curl")

    assert joins(fed(pipeline, [alert("N", curl, SHIM, TINI, NGINX, SHELL, DAEMON)])) == ["ancestry", "ancestry"]


def test_an_alert_needs_no_other_field_that_says_who_its_process_is(pipeline: Pipeline) -> None:
    bodies = []
    for body in (WEB_SHELL, alert("N", child(110, "/usr/bin/curl"), SHIM, TINI, NGINX, SHELL)):
        plain = msgspec.json.decode(body)
        kept = ("container.id", "evt.type", "proc.cmdline", "lineage.packed")
        plain["output_fields"] = {name: plain["output_fields"][name] for name in kept}
        bodies.append(msgspec.json.encode(plain))
    notes = fed(pipeline, bodies)

    assert joins(notes) == ["ancestry", "ancestry"]
    assert (notes[0].fields.pid, notes[0].fields.ppid, notes[0].fields.pname) == (110, 102, "sh")


def test_a_guess_of_falco_is_placed_as_its_fields_would_be(pipeline: Pipeline) -> None:
    def guessed(group: str, own: Seen, *above: Seen) -> bytes:
        text = packed(own, [each._replace(known="") for each in above]).replace("=1;", "?1;", 1)
        fields = {"lineage.packed": text, "proc.pid": None}
        return alert(group, own, *above, exact=False, shown=[], **fields)

    curl = child(110, "/usr/bin/curl")
    notes = fed(pipeline, [guessed("W", SHELL, SHIM, TINI, NGINX), guessed("N", curl, SHIM, TINI, NGINX, SHELL)])

    assert joins(notes) == ["lineage", "lineage"]


def test_an_upgrade_in_the_middle_keeps_one_context(pipeline: Pipeline) -> None:
    token = alert("C", child(111, "/usr/bin/cat", 9), SHIM, TINI, DAEMON, exact=False)
    bodies = [
        alert("W", SHELL, SHIM, TINI, NGINX, exact=False),
        alert("N", child(110, "/usr/bin/curl"), SHIM, TINI, NGINX, SHELL, DAEMON),
        token,
    ]
    notes = fed(pipeline, bodies)

    assert [note.case for note in notes] == ["Web Shell with Network Activity", "Full Web Application Compromise"]
    assert len({note.incident for note in notes}) == 1
    assert joins(notes) == ["lineage", "ancestry", "lineage"]


def test_nodes_with_and_without_the_plugin_do_not_mix(pipeline: Pipeline) -> None:
    curl = child(110, "/usr/bin/curl")
    bodies = [
        WEB_SHELL,
        alert("W", SHELL, SHIM, TINI, NGINX, exact=False, host="node-2", container="bbbbbbbbbbbb"),
        alert("N", curl, SHIM, TINI, exact=False, host="node-2", container="bbbbbbbbbbbb"),
        alert("N", curl, SHIM, TINI),
    ]
    notes = fed(pipeline, bodies)

    assert [note.where.host for note in notes] == ["node-2"]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("moved", [-9_000_000, 30, 9_000_000])
def test_falco_restarts_between_web_shell_and_credential_read(pipeline: Pipeline, moved: int, exact: bool) -> None:
    """Start times of processes older than Falco move, and sessions are read again."""
    older = [each._replace(start=each.start + moved, known="p") for each in (SHIM, TINI, NGINX, SHELL)]
    cat = child(111, "/usr/bin/cat")
    start = {"proc.ppid.ts": older[-1].start, "proc.sid": 4072}
    notes = fed(
        pipeline, [alert("W", SHELL, SHIM, TINI, NGINX, exact=exact), alert("C", cat, *older, exact=exact, **start)]
    )

    assert [note.case for note in notes] == ["Web Shell with Credential Theft"]
    (container,) = pipeline.containers
    assert len(container.contexts) == 1


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("moved", [-9_000_000, 9_000_000])
def test_falco_restarts_between_fork_and_exec(pipeline: Pipeline, moved: int, exact: bool) -> None:
    forked = child(111, "/usr/bin/dash")._replace(name="sh")
    above = [SHIM, TINI, NGINX, SHELL]
    older = [each._replace(start=each.start + moved, known="p") for each in above]
    executed = forked._replace(start=forked.start + moved, file="/usr/bin/cat", name="", known="p")
    bodies = [
        alert("W", SHELL, SHIM, TINI, NGINX, exact=exact),
        alert("W", forked, *above, exact=exact),
        alert("C", executed, *older, exact=exact, **{"proc.sid": 4072}),
    ]
    notes = fed(pipeline, bodies)

    assert [note.case for note in notes] == ["Web Shell with Credential Theft"]
    (container,) = pipeline.containers
    assert len(container.contexts) == 1
    assert len([process for process in container.lineage if process == 111]) == 1


@pytest.mark.parametrize("exact", [True, False])
def test_a_pid_that_is_reused_while_falco_restarts_joins_nothing(pipeline: Pipeline, exact: bool) -> None:
    admin = Seen(SHELL.pid, SHELL.start + 60 * GIGA, "/bin/bash", known="p")
    curl = child(110, "/usr/bin/curl", 70)
    entered = [SHIM, admin]
    start = {"proc.ppid.ts": admin.start, "proc.sid": 4072, "proc.pvpid": 7}

    web_shell = alert("W", SHELL, SHIM, TINI, NGINX, exact=exact)
    assert fed(pipeline, [web_shell, alert("N", curl, *entered, exact=exact, **start)]) == []


@pytest.mark.parametrize(
    ("joined", "confidence"),
    [([SHIM, TINI, NGINX, SHELL], "high"), ([SHIM, TINI], "low"), ([SHIM, TINI, NGINX], "high")],
)
def test_evidence_of_orphans_alone_lowers_the_confidence(
    pipeline: Pipeline, joined: list[Seen], confidence: str
) -> None:
    curl = alert("N", child(110, "/usr/bin/curl"), *joined, exact=False, **{"proc.sid": 77})
    (note,) = fed(pipeline, [WEB_SHELL, curl])

    assert from_notification(note).confidence == confidence
    assert ("Low confidence" in to_event(note)["output_fields"]["incident.summary"]) == (confidence == "low")
