"""Everyday work and attacks of our own, played without Falco: what comes of each."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from e2e import tree
from falco import playing
from falco.ruleset import shipped
from support import fast_yaml

from sidecar.correlation.pipeline import Pipeline
from sidecar.model import RANK, Notification
from sidecar.rules import loading
from sidecar.rules.rule import CorrelationRule

FOLDER = Path(__file__).parents[1] / "data" / "plays"
PLAYS = tree.load(FOLDER / "serving.yaml")
ROUNDS = [fast_yaml.load(path.read_text()) for path in sorted(FOLDER.glob("round_*.yaml"))]


@cache
def correlation_rules() -> list[CorrelationRule]:
    """Those that are shipped."""
    return loading.load([loading.SHIPPED / "correlation"])


def strongest(scenario: tree.Scenario) -> Notification | None:
    """The strongest notification of a play."""
    pipeline = Pipeline(correlation_rules(), lambda: 0.0)
    alerts = playing.alerts(scenario, shipped())
    messages = [message for alert in alerts for message in pipeline.process_json(json.dumps(alert).encode())[1]]
    notes = [message for message in [*messages, *pipeline.flush()] if isinstance(message, Notification)]
    return max(notes, key=lambda note: RANK[note.severity], default=None)


@pytest.mark.parametrize("scenario", PLAYS, ids=lambda scenario: scenario.name)
def test_a_play_comes_to_its_case(scenario: tree.Scenario) -> None:
    note = strongest(scenario)

    assert (note.case if note else None) == scenario.case


def rank(play: dict[str, Any]) -> int:
    """How severe what comes of a play is; -1 is silence."""
    note = strongest(tree.scenario("round", play))
    return RANK[note.severity] if note else -1


@pytest.mark.parametrize(
    "play", [play for plays in ROUNDS for play in plays["workloads"]], ids=lambda play: play["name"]
)
def test_everyday_work_is_silent(play: dict[str, Any]) -> None:
    assert rank(play) <= RANK.get(play.get("most", ""), -1)


@pytest.mark.parametrize("play", [play for plays in ROUNDS for play in plays["attacks"]], ids=lambda play: play["name"])
def test_an_attack_is_told(play: dict[str, Any]) -> None:
    assert (rank(play) >= RANK[play["severity"]]) is not play.get("missed", False)
