"""Many correlation rules, loaded in any order: none of them changes what another finds."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA, fed
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rules import WEB_RCE, by_id
from support.site_with_incidents import stories

from sidecar.cli.testing import rule_tests
from sidecar.correlation.pipeline import Pipeline
from sidecar.model import Notification
from sidecar.rules.loading import compiled, load
from sidecar.rules.rule import CorrelationRule
from sidecar.rules.spec import RuleFile
from sidecar.yamlfile.typed import build, read_yaml

MINING = DATA / "crypto_mining.yaml"

SHARED: dict[str, Any] = {
    "id": "tool-download",
    "name": "Tool download detected",
    "scope": "container",
    "groups": {
        "shell": {"tags": ["webrce_web_shell"], "stock": ["Run shell untrusted"]},
        "download": {
            "tags": ["download", "webrce_network"],
            "stock": [
                "Launch Suspicious Network Tool in Container",
                "Launch Ingress Remote File Copy Tools in Container",
            ],
        },
    },
    "cases": [{"name": "Tool Downloaded", "severity": "low", "when": "shell and download"}],
}
"""A rule that counts Falco rules which the web shell rule counts too."""


def many() -> list[CorrelationRule]:
    """The web shell rule and ten others, three of them with groups that it has too."""
    mining, shared = read_yaml(MINING), SHARED
    others = [{**mining, "id": f"mining-{number}"} for number in range(7)]
    others += [{**shared, "id": f"download-{number}"} for number in range(3)]
    return [WEB_RCE, *(compiled(build(RuleFile, other, "other"), "other") for other in others)]


MANY = many()


@cache
def bodies_of_stories() -> list[list[bytes]]:
    """The alerts of each test inside the web shell rule."""
    return [bodies for _, bodies in stories(WEB_RCE)]


def found(rules: list[CorrelationRule], bodies: list[bytes], name: str = WEB_RCE.id) -> list[Notification]:
    """What one rule finds among others."""
    return [note for note in fed(Pipeline(rules, lambda: 0.0), bodies) if note.correlation_rule == name]


@cache
def alone() -> list[list[Notification]]:
    """What the web shell rule finds in each by itself."""
    return [found([WEB_RCE], bodies) for bodies in bodies_of_stories()]


@settings(max_examples=8)
@given(st.permutations(MANY))
def test_ten_other_rules_change_nothing_that_a_rule_finds(rules: list[CorrelationRule]) -> None:
    assert [found(rules, bodies) for bodies in bodies_of_stories()] == alone()


@settings(max_examples=8)
@given(st.permutations(MANY))
def test_every_test_inside_a_rule_passes_beside_ten_others(rules: list[CorrelationRule]) -> None:
    assert [result.test.name for result in rule_tests.run(rules) if not result.passed] == []


@pytest.mark.parametrize("name", ["aaa", "zzz"])
def test_a_rule_file_that_sorts_first_or_last_leaves_the_shipped_one_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.yaml").write_text(MINING.read_text())
    (tmp_path / "web_application_rce.yaml").write_bytes(Path(WEB_RCE.where).read_bytes())
    rules = load([tmp_path])

    assert by_id(rules, WEB_RCE.id).outcomes == WEB_RCE.outcomes
    assert [found(rules, bodies) for bodies in bodies_of_stories()] == alone()


def test_a_general_tag_does_not_make_a_stock_alert_one_of_our_own() -> None:
    """`mitre_persistence` counts in the mining rule; the stock alerts that carry it are still passed through."""
    pipeline = Pipeline(MANY, lambda: 0.0)
    stock = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()

    assert not any(pipeline.process_json(body)[0].is_own_detection for body in stock)
