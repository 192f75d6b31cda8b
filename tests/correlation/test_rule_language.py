"""Conditions that count and contexts of a kind, in rules that are nothing but data."""

from itertools import permutations

import pytest
from conftest import DATA, fed

from sidecar.cli.testing import rule_tests
from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents import why
from sidecar.model import RANK
from sidecar.rules.loading import load
from sidecar.rules.rule import CorrelationRule
from sidecar.rules.spec import RuleTest

RULES = load([DATA / "package_install.yaml", DATA / "scan.yaml", DATA / "crypto_mining.yaml"])
TESTS = [(rule, test) for rule in RULES for test in rule.written.tests]


@pytest.mark.parametrize(("rule", "test"), TESTS, ids=[f"{rule.id}: {test.name}" for rule, test in TESTS])
def test_a_story_gives_what_its_rule_expects_beside_other_rules(rule: CorrelationRule, test: RuleTest) -> None:
    assert list(rule_tests.play(RULES, rule, test)) == [(each.severity, each.case) for each in test.expect]


@pytest.mark.parametrize(("rule", "test"), TESTS, ids=[f"{rule.id}: {test.name}" for rule, test in TESTS])
def test_the_order_of_arrival_decides_nothing(rule: CorrelationRule, test: RuleTest) -> None:
    strongest = max([each.severity for each in test.expect], key=RANK.__getitem__, default="")
    for order in permutations(alerts(rule, test.alerts)):
        severities = [note.severity for note in fed(Pipeline(RULES, lambda: 0.0), order)]

        assert max(severities, key=RANK.__getitem__, default="") == strongest


def test_what_a_case_lacks_names_its_counter() -> None:
    rule = next(rule for rule in RULES if rule.id == "scan")
    pipeline = Pipeline([rule], lambda: 0.0)
    fed(pipeline, list(alerts(rule, rule.written.tests[1].alerts)))

    place = why.without_incident(pipeline).places[0]

    lacking = {each.case: each.groups for each in place.contexts[0].lacking}
    assert lacking["Scan"] == ("3 different remote within 1m of (probe)",)
