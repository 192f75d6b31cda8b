"""Own identities and thefts: everyday work that stays silent, and attacks that are reported.

The first thirty of `tests/data/identity_plays.yaml` were written before any was played, and were right at once. Of the
twenty-six behind them nine were not, and the rules and the correlation were mended.
"""

from pathlib import Path
from typing import Any

import pytest
from e2e import tree
from falco import playing
from falco.ruleset import shipped
from falco.test_field_cases import SEVERITIES, worst
from support import fast_yaml

PLAYS: dict[str, list[dict[str, Any]]] = fast_yaml.load(
    (Path(__file__).parents[1] / "data" / "identity_plays.yaml").read_text()
)


def severity(play: dict[str, Any]) -> str:
    return worst(playing.alerts(tree.scenario("identity", play), shipped()))


@pytest.mark.parametrize("play", PLAYS["benign"], ids=lambda play: play["name"])
def test_work_with_an_identity_of_its_own_is_no_incident(play: dict[str, Any]) -> None:
    assert SEVERITIES.index(severity(play)) <= SEVERITIES.index(play.get("most", "silent"))


@pytest.mark.parametrize("play", PLAYS["attacks"], ids=lambda play: play["name"])
def test_a_theft_is_reported_as_severely_as_it_deserves(play: dict[str, Any]) -> None:
    assert SEVERITIES.index(severity(play)) >= SEVERITIES.index(play["least"])
