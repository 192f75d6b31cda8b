"""The execution context, told as stories: who belongs together and who does not.

Covers: `correlation.placement`, `correlation.anchors`, `correlation.notification`, `correlation.memory.container`,
`cli.testing.stories`.
"""

from collections.abc import Iterator
from itertools import combinations, permutations
from pathlib import Path

import pytest
from conftest import cases, fed
from msgspec import Struct

from sidecar.cli.testing import rule_tests
from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.rules.rule import CorrelationRule
from sidecar.rules.spec import RuleTest
from sidecar.yamlfile.typed import build, read_yaml

FILES = sorted((Path(__file__).parents[1] / "stories").glob("*.yaml"))


class Stories(Struct):
    stories: list[RuleTest]


STORIES = [story for file in FILES for story in build(Stories, {"stories": read_yaml(file)}, file.name).stories]
"""Each in the form of the tests inside a rule file."""


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_the_story_ends_as_expected(rules: list[CorrelationRule], rule: CorrelationRule, story: RuleTest) -> None:
    expected = [(each.severity, each.case) for each in story.expect]

    assert expected == list(rule_tests.play(rules, rule, story))


LATE = 30 * 1_000_000_000


def orders(story: RuleTest) -> Iterator[tuple[int, ...]]:
    """Every order in which the alerts may arrive if none is later than 30 seconds."""
    times = [int(alert.at) for alert in story.alerts]
    for order in permutations(range(len(times))):
        if all(times[a] <= times[b] + LATE for a, b in combinations(order, 2)):
            yield order


@pytest.mark.parametrize("story", [s for s in STORIES if len(s.alerts) <= 4], ids=lambda story: story.name)
def test_lateness_up_to_30_seconds_changes_nothing(
    rules: list[CorrelationRule], rule: CorrelationRule, story: RuleTest
) -> None:
    bodies = [list(alerts(rule, [alert], story.alerts)) for alert in story.alerts]
    finals = set()
    for order in orders(story):
        pipeline = Pipeline(rules, lambda: 0.0)
        arriving = [body for index in order for body in bodies[index]]
        notes = fed(pipeline, arriving)
        finals.add(cases(notes)[-1][0] if notes else "silence")

    assert {story.expect[-1].severity if story.expect else "silence"} == finals
