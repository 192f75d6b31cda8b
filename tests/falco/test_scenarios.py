"""Events of real Falco, run again through the shipped rules and the real pipeline: no Falco needed, the same verdicts.

`data/recorded_events.jsonl` are the recorded scenarios; `data/played.jsonl.gz` is what `make e2e RECORD=...` kept of all of
them.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from e2e import judge, recording, tree
from falco.event import OWN_ADDRESS
from falco.ruleset import Ruleset, shipped

from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents import falco_event
from sidecar.rules import loading

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests" / "e2e" / "scenarios").glob("*.yaml"))
SCENARIOS = [scenario for path in FILES for scenario in tree.load(path) if not scenario.plugin]
RECORDED = Path(__file__).with_name("data") / "recorded_events.jsonl"
MARKERS = {"interactive", "lineage"}


@cache
def alerts(path: Path) -> list[dict[str, Any]]:
    return list(recording.alerts(recording.events(path), shipped()))


def groups_of(raised: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for alert in raised:
        found[alert["output_fields"]["proc.env[CASE]"]] |= set(Ruleset.groups_by_tag(alert["tags"])) - MARKERS
    return found


@cache
def notes_of(path: Path) -> dict[str, list[judge.Note]]:
    pipeline = Pipeline(loading.load([ROOT / "falco_rules" / "correlation"]), lambda: 0.0)
    notes = [note for alert in alerts(path) for note in pipeline.process_json(json.dumps(alert).encode())[1]]
    seen = judge.record(alerts(path))
    return judge.notes_by_scenario(map(falco_event.to_event, notes), SCENARIOS, seen)


def verdict(scenario: tree.Scenario, path: Path) -> judge.Verdict:
    return next(judge.verdicts([scenario], notes_of(path)))


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if s.groups], ids=lambda scenario: scenario.name)
def test_recorded_events_give_exactly_the_groups_of(scenario: tree.Scenario) -> None:
    assert groups_of(alerts(RECORDED))[scenario.name] == scenario.groups


@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if s.groups], ids=lambda scenario: scenario.name)
def test_recorded_events_come_to_the_case_of(scenario: tree.Scenario) -> None:
    assert verdict(scenario, RECORDED).right, verdict(scenario, RECORDED)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_played_events_come_to_the_case_of(scenario: tree.Scenario) -> None:
    assert verdict(scenario, recording.EVENTS).right, verdict(scenario, recording.EVENTS)


def test_every_scenario_was_recorded() -> None:
    played = {event["output_fields"]["proc.env[CASE]"] for event in recording.events()}
    assert [scenario.name for scenario in SCENARIOS if scenario.name not in played] == []


def test_connections_were_recorded_from_another_address_than_that_which_they_reach() -> None:
    fields = [event["output_fields"] for event in recording.events()]
    connected = [f for f in fields if f["evt.type"] == "connect" and not f.get("fd.sip", "127.").startswith("127.")]
    assert {f["fd.cip"] for f in connected} == {OWN_ADDRESS}
    assert OWN_ADDRESS not in {f["fd.sip"] for f in connected}
