"""Loads rule files and reports every mistake in every file at once; the engine never gets an invalid rule."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sidecar.errors import ConfigError
from sidecar.rules.conditions import Conditions
from sidecar.rules.counters import PREFIX, ConditionError, unknown_group
from sidecar.rules.rule import CorrelationRule
from sidecar.rules.spec import RuleFile
from sidecar.text import escape, placeholders
from sidecar.yamlfile import positions
from sidecar.yamlfile.typed import build, read_yaml

MAX_GROUPS = 12
"""Groups and counters of a rule: the case table has 2 to their power entries."""

SHIPPED = Path(__file__).parents[2] / "falco_rules"
"""The rule files that ship with this package."""

_FIELD_NAME = re.compile(r"[A-Za-z0-9_.]+")


def load(paths: Iterable[Path]) -> list[CorrelationRule]:
    """Load rule files, and those in folders. Raises ConfigError with every problem in every file."""
    rules: list[CorrelationRule] = []
    problems: list[str] = []
    for path in yaml_files(paths):
        try:
            rules.append(compiled(build(RuleFile, _correlation_rule(path), str(path)), str(path)))
        except ConfigError as error:
            problems += [positions.located(path, problem) for problem in error.problems]
    twice = sorted({rule.id for rule in rules if sum(rule.id == other.id for other in rules) > 1})
    problems += [f"two rule files have the id {name!r}: ids must be unique" for name in twice]
    if not rules and not problems:
        problems = [f"no rule files (*.yaml) in {', '.join(map(str, paths))}"]
    if problems:
        raise ConfigError("", problems)
    return rules


def _correlation_rule(path: Path) -> Any:
    data = read_yaml(path)
    items = data if isinstance(data, list) else []
    if any(isinstance(item, dict) and not {"rule", "macro", "list"}.isdisjoint(item) for item in items):
        problem = f"is a file of Falco rules, not a correlation rule; Falco checks those: falco -V {path}"
        raise ConfigError(str(path), [problem])
    return data


def compiled(written: RuleFile, where: str) -> CorrelationRule:
    """Check what the types cannot express, and build the case table. Raises ConfigError."""
    conditions, problems = _conditions(written)
    problems += _problems(written)
    problems += _counter_problems(written, conditions)
    if problems:
        raise ConfigError(where, problems)
    rule = CorrelationRule(written, conditions.table(), where, conditions.counters)
    unreachable = [
        f"cases[{index}]: {case.name!r} can never be reached: an earlier case is true whenever it is"
        for index, case in enumerate(rule.cases)
        if index not in rule.outcomes
    ]
    if unreachable:
        raise ConfigError(where, unreachable)
    return rule


def _conditions(written: RuleFile) -> tuple[Conditions, list[str]]:
    conditions = Conditions(list(written.groups))
    problems: list[str] = []
    for index, case in enumerate(written.cases):
        try:
            conditions.add(case.when)
        except ConditionError as error:
            problems.append(f"cases[{index}].when: {error}")
    return conditions, problems


def _counter_problems(written: RuleFile, conditions: Conditions) -> Iterator[str]:
    groups, counters = len(written.groups), len(conditions.counters)
    if groups + counters > MAX_GROUPS:
        counted = f" and {counters} counters in the conditions" if counters else ""
        yield f"groups: {groups} groups{counted}, at most {MAX_GROUPS} are supported"
    for counter in conditions.counters:
        if counter.within > written.window:
            yield f"window: `{counter}` looks further back than the window of the rule, {written.window}"


def _problems(written: RuleFile) -> Iterator[str]:
    if not written.cases:
        yield "cases: a rule needs at least one case"
    yield from _name_problems(written)
    yield from _group_problems(written)
    if written.scope == "session" and written.anchor is None:
        yield "anchor: is missing: `scope: session` needs the groups at whose detections a context is anchored"
    if written.anchor:
        yield from _unknown_groups(written, written.anchor.groups, "anchor.groups")
    for index, test in enumerate(written.tests):
        for number, alert in enumerate(test.alerts):
            yield from _unknown_groups(written, alert.detect, f"tests[{index}].alerts[{number}].detect")
    yield from _triage_problems(written)


def _name_problems(written: RuleFile) -> Iterator[str]:
    cases = ((f"cases[{index}].name", case.name) for index, case in enumerate(written.cases))
    for path, name in (("id", written.id), ("name", written.name), *cases):
        if not name or escape.sentence(name) != name:
            yield f"{path}: {escape.terminal(name)!r} is empty or contains control or markup characters"


def _group_problems(written: RuleFile) -> Iterator[str]:
    for name, group in written.groups.items():
        if not name.isidentifier() or name in ("and", "or", "not") or name.startswith(PREFIX):
            yield f"groups.{name}: the name of a group must be one word, such as shell_technique"
        if not (group.tags or group.rules or group.stock or group.traits):
            yield f"groups.{name}: has no tags, rules or traits, so nothing can count for it"
        for index, sentence in enumerate(group.sentences):
            yield from placeholders.mistakes(f"groups.{name}.sentences[{index}]", sentence, placeholders.TELL)
    for tag in written.tags:
        if not _FIELD_NAME.fullmatch(tag):
            yield f"tags: {tag!r} may contain only letters, digits, `_` and `.` (Falco Talon cannot match others)"


def _unknown_groups(written: RuleFile, names: list[str], path: str) -> Iterator[str]:
    for name in names:
        if name not in written.groups:
            yield f"{path}: {unknown_group(name, list(written.groups))}"


def _triage_problems(written: RuleFile) -> Iterator[str]:
    for index, step in enumerate(written.triage):
        for place in ("pod", "container", "host"):
            yield from placeholders.mistakes(f"triage[{index}].{place}", getattr(step, place), placeholders.TRIAGE)
        if escape.sentence(step.do) != step.do or not step.do:
            yield f"triage[{index}].do: {escape.terminal(step.do)!r} is empty or contains control or markup characters"
        if escape.sentence(step.instead) != step.instead:
            yield f"triage[{index}].instead: {escape.terminal(step.instead)!r} contains control or markup characters"


def yaml_files(paths: Iterable[Path]) -> Iterator[Path]:
    """These files, and those in folders, sorted."""
    for path in paths:
        yield from sorted(path.glob("*.yaml")) if path.is_dir() else [path]
