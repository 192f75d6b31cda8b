"""Compares the notifications of each scenario with the expected ones, and Falco with the test bench."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from e2e.engine import FIRST_EVENT
from e2e.player import container_id
from e2e.tree import Scenario
from falco.event import Event
from falco.ruleset import Ruleset
from falco.tables import Case

SEVERITIES = ("low", "medium", "high", "critical")


@dataclass
class Record:
    """What Falco raised in a run: rules by scenario, and by event beside the event itself."""

    rules: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    events: dict[int, tuple[Event, set[str]]] = field(default_factory=dict)
    scenario_of: dict[str, str] = field(default_factory=dict)


class Note(NamedTuple):
    """What matters of one notification."""

    severity: str
    case: str
    incident: str


@dataclass(frozen=True)
class Verdict:
    """One row of the table."""

    name: str
    kind: str
    expected: str
    got: str
    right: bool


def record(alerts: Iterable[Mapping[str, Any]]) -> Record:
    """Sort the alerts of a run."""
    seen = Record()
    fired: dict[int, set[str]] = defaultdict(set)
    for alert in alerts:
        fields = alert["output_fields"]
        scenario = fields.get("proc.env[CASE]")
        if not scenario or scenario == FIRST_EVENT:
            continue
        for pid in (fields.get("proc.pid"), fields.get("proc.ppid")):
            seen.scenario_of.setdefault(str(pid), scenario)
        if alert["rule"] == "PROBE":
            seen.events[fields["evt.num"]] = (Event(fields), fired[fields["evt.num"]])
        else:
            fired[fields["evt.num"]].add(alert["rule"])
            seen.rules[scenario].add(alert["rule"])
    return seen


def named_pids(fields: Mapping[str, Any]) -> list[str]:
    """The pids on the host that a notification names: that of the deciding process, and those of its next steps."""
    own = [fields["proc.vpid"]] if fields.get("container.id") == "host" and "proc.vpid" in fields else []
    return own + re.findall(r"\b(\d+):\d{9,}", fields.get("incident.next", ""))


def notes_by_scenario(
    sent: Iterable[Mapping[str, Any]], scenarios: Sequence[Scenario], seen: Record
) -> dict[str, list[Note]]:
    """The notifications of each scenario, in order."""
    by_container = {container_id(scenario.name): scenario.name for scenario in scenarios}
    notes: dict[str, list[Note]] = defaultdict(list)
    for event in sent:
        fields = event["output_fields"]
        if "incident.id" not in fields:  # a report of the service about itself
            continue
        played = (seen.scenario_of[pid] for pid in named_pids(fields) if pid in seen.scenario_of)
        name = by_container.get(fields.get("container.id", "")) or next(played, "?")
        notes[name].append(Note(fields["incident.severity"].lower(), event["rule"], fields["incident.id"]))
    return notes


def verdicts(scenarios: Sequence[Scenario], notes: Mapping[str, Sequence[Note]]) -> Iterator[Verdict]:
    """One row per scenario: the most severe notification must be the expected one, under one incident id."""
    for scenario in scenarios:
        mine = notes.get(scenario.name, [])
        worst = max(mine, key=lambda note: SEVERITIES.index(note.severity), default=None)
        got = worst.case if worst else "silence"
        expected = scenario.case or "silence"
        right = got == expected and len({note.incident for note in mine}) <= 1
        yield Verdict(scenario.name, scenario.kind, expected, got, right)


def group_mistakes(scenarios: Sequence[Scenario], seen: Record, ruleset: Ruleset) -> Iterator[Verdict]:
    """The scenarios that name their groups, where Falco saw others."""
    markers = {"interactive", "lineage"}
    for scenario in scenarios:
        got = {group for rule in seen.rules[scenario.name] for group in ruleset.groups(rule)} - markers
        if scenario.groups and got != scenario.groups:
            yield Verdict(scenario.name, "groups", str(sorted(scenario.groups)), str(sorted(got)), right=False)


def detection_verdicts(cases: Sequence[Case], seen: Record) -> Iterator[Verdict]:
    """One row per case of the detection tables that was played."""
    for case in cases:
        fired = case.rule in seen.rules[case.name]
        expected = case.rule if case.fires else f"not {case.rule}"
        yield Verdict(case.name, "detection", expected, "fired" if fired else "not fired", fired == case.fires)


def disagreements(seen: Record, ruleset: Ruleset) -> Iterator[str]:
    """Events on which Falco and the test bench's evaluator differ."""
    for number, (event, fired) in seen.events.items():
        bench = set(ruleset.fired(event))
        if bench != fired:
            yield f"event {number} ({event.fields.get('proc.cmdline')}): Falco {sorted(fired)}, bench {sorted(bench)}"
