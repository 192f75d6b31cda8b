"""A scenario passes if its most severe notification is the expected case, once, in one incident."""

import pytest
from e2e.judge import Note, named_pids, notes_by_scenario, record, verdicts
from e2e.tree import Scenario

MEDIUM = Note("medium", "Shell Execution Detected", "i1")
CRITICAL = Note("critical", "Full Web Application Compromise", "i1")


def judged(case: str | None, *notes: Note) -> bool:
    scenario = Scenario("x", container=True, case=case, severity=None, groups=frozenset(), chains=[])
    return next(verdicts([scenario], {"x": list(notes)})).right


@pytest.mark.parametrize(
    ("case", "notes", "right"),
    [
        (None, (), True),
        (None, (MEDIUM,), False),
        ("Shell Execution Detected", (), False),
        ("Shell Execution Detected", (MEDIUM,), True),
        ("Full Web Application Compromise", (MEDIUM, CRITICAL), True),
        ("Shell Execution Detected", (MEDIUM, CRITICAL), False),
        ("Full Web Application Compromise", (MEDIUM, CRITICAL._replace(incident="i2")), False),
    ],
)
def test_verdict(case: str | None, notes: tuple[Note, ...], right: bool) -> None:
    assert judged(case, *notes) == right


def test_alerts_are_sorted_by_scenario_and_event_and_strangers_left_out() -> None:
    fields = {"proc.env[CASE]": "a", "evt.num": 7, "proc.pid": 3, "proc.name": "sh"}
    alerts = [
        {"rule": "PROBE", "output_fields": fields},
        {"rule": "Interactive shell", "output_fields": fields},
        {"rule": "Network utility", "output_fields": {"proc.env[CASE]": None, "evt.num": 8}},
    ]
    seen = record(alerts)
    assert seen.rules == {"a": {"Interactive shell"}}
    assert seen.events[7][1] == {"Interactive shell"}
    assert seen.scenario_of["3"] == "a"


def test_a_report_of_the_service_about_itself_is_no_note() -> None:
    report = {
        "rule": "Correlator degraded",
        "output_fields": {"correlator.report": "no alerts", "container.id": "host"},
    }
    assert notes_by_scenario([report], [], record([])) == {}


def test_a_notification_of_the_host_is_that_of_its_process() -> None:
    fields = {"incident.id": "i", "container.id": "host", "proc.vpid": "7", "incident.next": "1. Isolate"}
    assert named_pids(fields) == ["7"]
    assert named_pids(fields | {"container.id": "abc", "incident.next": "2. End: 41:1795500800 42:1795500801"}) == [
        "41",
        "42",
    ]
