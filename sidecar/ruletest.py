"""Runs the tests inside rule files: their short stories become Falco's JSON and go through the shipped pipeline."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sidecar.model import Notification
from sidecar.pipeline import Pipeline
from sidecar.rules import CorrelationRule, RuleTest
from sidecar.story import alerts

Outcome = tuple[tuple[str, str], ...]
"""Severity and case of each notification, in order."""


class Result(NamedTuple):
    """One test: what was expected and what came."""

    rule: CorrelationRule
    test: RuleTest
    expected: Outcome
    got: Outcome

    @property
    def passed(self) -> bool:
        """Whether both are the same."""
        return self.expected == self.got


def run(rules: Sequence[CorrelationRule]) -> Iterator[Result]:
    """Run every test of every rule, each in a fresh pipeline that has all the rules."""
    for rule in rules:
        for test in rule.written.tests:
            expected = tuple((each.severity, each.case) for each in test.expect)
            yield Result(rule, test, expected, play(rules, rule, test))


def play(rules: Sequence[CorrelationRule], rule: CorrelationRule, test: RuleTest) -> Outcome:
    """The notifications that a test gives."""
    pipeline = Pipeline(rules, timer=lambda: 0.0)
    notes = [note for body in alerts(rule, test.alerts) for note in pipeline.feed_json(body)[1]]
    notes += pipeline.settle()
    return tuple(
        (note.severity, note.case)
        for note in notes
        if isinstance(note, Notification) and note.correlation_rule == rule.id
    )
