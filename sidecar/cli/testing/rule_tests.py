"""Runs the tests inside rule files: their short stories are expanded to Falco's JSON and sent through the pipeline.

A failing test is explained, so that its author need not understand the engine: which groups were seen together and
where, what the expected case still needs, which alert counted for nothing, and which joined no context.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sidecar.cli.testing.stories import alerts
from sidecar.correlation.memory.container import Container
from sidecar.correlation.memory.context import Context
from sidecar.correlation.pipeline import Pipeline
from sidecar.model import Notification
from sidecar.rules.rule import CorrelationRule
from sidecar.rules.spec import AlertSpec, RuleTest
from sidecar.text.suggestion import did_you_mean
from sidecar.yamlfile import positions
from sidecar.yamlfile.typed import Duration

Outcome = tuple[tuple[str, str], ...]
"""Severity and case of each notification, in order."""


class Result(NamedTuple):
    """One test with the expected and the actual outcome; `why` and `place` (file and line) are set if they differ."""

    rule: CorrelationRule
    test: RuleTest
    expected: Outcome
    got: Outcome
    why: tuple[str, ...] = ()
    place: str = ""

    @property
    def passed(self) -> bool:
        """Whether both are the same."""
        return self.expected == self.got


def run(rules: Sequence[CorrelationRule]) -> Iterator[Result]:
    """Run every test of every rule, each in a new pipeline with all the rules."""
    for rule in rules:
        for number, test in enumerate(rule.written.tests):
            expected = tuple((each.severity, each.case) for each in test.expect)
            pipeline, notes = _played(rules, rule, test)
            result = Result(rule, test, expected, _outcome(notes))
            if not result.passed:
                at = positions.line(Path(rule.where), f"tests[{number}]") if rule.where else 0
                why = tuple(_why(result, pipeline, rules.index(rule)))
                result = result._replace(why=why, place=f"{rule.where}:{at}" if at else "")
            yield result


def play(rules: Sequence[CorrelationRule], rule: CorrelationRule, test: RuleTest) -> Outcome:
    """The notifications that a test causes."""
    return _outcome(_played(rules, rule, test)[1])


def untested(rule: CorrelationRule) -> list[str]:
    """The cases that no test of the rule expects."""
    expected = {each.case for test in rule.written.tests for each in test.expect}
    return [case.name for case in rule.cases if case.name not in expected]


def _played(
    rules: Sequence[CorrelationRule], rule: CorrelationRule, test: RuleTest
) -> tuple[Pipeline, list[Notification]]:
    pipeline = Pipeline(rules, timer=lambda: 0.0)
    messages = [message for body in alerts(rule, test.alerts) for message in pipeline.process_json(body)[1]]
    messages += pipeline.flush()
    notes = [each for each in messages if isinstance(each, Notification) and each.correlation_rule == rule.id]
    return pipeline, notes


def report(result: Result) -> Iterator[str]:
    """A result as lines; a failed one with the expected and the actual outcome, and the reasons."""
    yield f"{'ok    ' if result.passed else 'FAILED'} {result.rule.id}: {result.test.name}"
    if not result.passed:
        yield f"       expected: {_in_words(result.expected)}"
        yield f"       got:      {_in_words(result.got)}"
        yield from (f"       why:      {reason}" for reason in result.why)
        if result.place:
            yield f"       where:    {result.place}"


def _in_words(outcome: Outcome) -> str:
    return "; ".join(f"{severity} {case!r}" for severity, case in outcome) or "silence"


def _outcome(notes: Sequence[Notification]) -> Outcome:
    return tuple((note.severity, note.case) for note in notes)


def _why(result: Result, pipeline: Pipeline, index: int) -> Iterator[str]:
    rule = result.rule
    contexts = [(container, context) for container in pipeline.containers for context in _all(container, index)]
    yield from _unmatched_rules(result)
    for container, context in contexts:
        yield _seen_together(rule, container, context)
    if not contexts:
        yield f"no execution context was opened: none of {', '.join(rule.named(rule.anchoring))} was seen"
    yield from _unjoined(rule, pipeline, index)
    masks = [_fresh(rule, context) for _, context in contexts] or [0]
    for severity, name in dict.fromkeys(result.expected):
        if (severity, name) not in result.got:
            yield from _missing(rule, severity, name, masks)
    if sorted(result.expected) == sorted(result.got):
        yield "the same notifications arrived in another order"


def _unjoined(rule: CorrelationRule, pipeline: Pipeline, index: int) -> Iterator[str]:
    anchoring = " or ".join(rule.named(rule.anchoring))
    for held in (held for container in pipeline.containers for held in container.pending if held.rule == index):
        groups = " + ".join(rule.named(held.groups))
        yield f"{groups} by {held.alert.fields.name} joined no context: no {anchoring} was seen above it"


def _all(container: Container, index: int) -> list[Context]:
    coarse = container.coarse.get(index)
    return [*container.contexts_of(index), *([coarse] if coarse is not None else [])]


def _fresh(rule: CorrelationRule, context: Context) -> int:
    return context.groups_within_window(rule)


def _seen_together(rule: CorrelationRule, container: Container, context: Context) -> str:
    where = container.where.container_name or "the host"
    root = f", below {context.name}" if context.name else ""
    fresh = _fresh(rule, context)
    old = rule.named(sum(1 << bit for bit in context.spans if not fresh >> bit & 1))
    late = f"; too old, the window is {Duration(rule.window)}: {', '.join(old)}" if old else ""
    return f"together in {where}{root}: {', '.join(rule.named(fresh)) or 'nothing'}{late}"


def _missing(rule: CorrelationRule, severity: str, name: str, masks: Sequence[int]) -> Iterator[str]:
    case = next((number for number, case in enumerate(rule.cases) if case.name == name), None)
    if case is None:
        yield f"this rule has no case named {name!r}{did_you_mean(name, [each.name for each in rule.cases])}"
        return
    if rule.cases[case].severity != severity:
        yield f"{name!r} is {rule.cases[case].severity}, the test expects {severity}"
        return
    reaching = [mask for mask, outcome in enumerate(rule.outcomes) if outcome == case]
    lacking = [mask & ~seen for mask in reaching for seen in masks if mask & seen == seen]
    when = f"{name!r} needs {rule.written.cases[case].when}"
    if not lacking:
        yield f"{when}; what was seen together is already an earlier row of the table"
    elif fewest := min(lacking, key=int.bit_count):
        yield f"{when}; missing: {', '.join(rule.needs(fewest))}"


def _unmatched_rules(result: Result) -> Iterator[str]:
    groups = result.rule.written.groups.values()
    names = [name for group in groups for name in (*group.rules, *group.stock)] + result.rule.written.lineage.rules
    for number, alert in enumerate(result.test.alerts, 1):
        if alert.rule and alert.rule not in names:
            yield f"alert {number}, {_quoted(alert)}: the rule counts for no group{did_you_mean(alert.rule, names)}"


def _quoted(alert: AlertSpec) -> str:
    return f"{alert.rule!r} ({alert.process})"
