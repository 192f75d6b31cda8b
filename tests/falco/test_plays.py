"""Everyday work and attacks of our own, played without Falco: what comes of each."""

import json
from pathlib import Path

import pytest
from e2e import tree
from falco import playing
from falco.ruleset import shipped

from sidecar.correlation.pipeline import Pipeline
from sidecar.model import RANK, Notification
from sidecar.rules import loading

PLAYS = tree.load(Path(__file__).parents[1] / "data" / "plays" / "serving.yaml")


def worst(scenario: tree.Scenario) -> str | None:
    """The case of the strongest notification of a play."""
    pipeline = Pipeline(loading.load([loading.SHIPPED / "correlation"]), lambda: 0.0)
    alerts = playing.alerts(scenario, shipped())
    messages = [message for alert in alerts for message in pipeline.process_json(json.dumps(alert).encode())[1]]
    notes = [message for message in [*messages, *pipeline.flush()] if isinstance(message, Notification)]
    return max(notes, key=lambda note: RANK[note.severity]).case if notes else None


@pytest.mark.parametrize("scenario", PLAYS, ids=lambda scenario: scenario.name)
def test_a_play_comes_to_its_case(scenario: tree.Scenario) -> None:
    assert worst(scenario) == scenario.case
