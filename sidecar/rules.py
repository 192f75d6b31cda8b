"""Correlation rules are data: one YAML file says which alerts matter, and what they mean together.

A `RuleFile` is what a person writes, a `CorrelationRule` what the engine runs. Loading tells every mistake in the file
at once; the engine never sees a rule with one.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, field

from sidecar import conditions, escape, lines, placeholders
from sidecar.conditions import NO_CASE
from sidecar.errors import ConfigError
from sidecar.model import RANK, GroupKind, Severity
from sidecar.schema import Duration, build, lasting, read_yaml

MAX_GROUPS = 12
"""The case table has 2 ** groups entries."""

SHIPPED = Path(__file__).parent.parent / "falco_rules"
"""The rule files that travel with this package."""

_FIELD_NAME = re.compile(r"[A-Za-z0-9_.]+")


class GroupSpec(Struct, forbid_unknown_fields=True):
    """An activity group: the Falco rules (by tag or by name) and traits of a process that count for it."""

    tags: list[str] = []
    rules: list[str] = []
    stock: list[str] = []
    """Rules of others that see the same; they count until a host has shown that the tagged ones see those events."""
    traits: list[Literal["interactive_shell"]] = []
    sticky: bool = False
    """Once seen it stays with the context, whatever the window."""
    kind: GroupKind = "evidence"
    """`credentials`: what its detections name is told as touched; `marker`: it stands beside the evidence."""
    tell: list[str] = []
    """What happened, as the end of a sentence; the first whose `{...}` the detection can fill is told."""


class LineageSpec(Struct, forbid_unknown_fields=True):
    """Alerts that are no evidence but show which process descends from which."""

    tags: list[str] = []
    rules: list[str] = []


class AnchorSpec(Struct, forbid_unknown_fields=True):
    """What an execution context hangs on: the service whose child gave a detection of `groups`."""

    groups: list[str]
    services: list[str] = []
    """Process names (a `*` may end one): the outermost of an unbroken chain of them is the context's anchor."""


class IncidentSpec(Struct, forbid_unknown_fields=True):
    """When an incident closes: so long after its last, or its first, evidence."""

    quiet: Duration = lasting("1h")
    longest: Duration = lasting("24h")


class CaseSpec(Struct, forbid_unknown_fields=True):
    """One row of the case table; the first row that holds is the case."""

    name: str
    severity: Severity
    when: str


class TriageStep(Struct, forbid_unknown_fields=True):
    """A next step in words, and the command for the place where the incident is."""

    do: str
    pod: str = ""
    container: str = ""
    host: str = ""


class AlertSpec(Struct, forbid_unknown_fields=True):
    """One alert of a test, in short; `sidecar.story` makes Falco's JSON of it."""

    process: str
    """From the first process down, `tini > php-fpm > sh`; `#2` after a name tells siblings apart."""
    detect: list[str] = []
    rule: str = ""
    at: Duration = lasting("0s")
    host: bool = False
    container: str = "app"
    fields: dict[str, str | int] = {}


class Expected(Struct, forbid_unknown_fields=True):
    """One notification that a test wants to see."""

    severity: Severity
    case: str


class RuleTest(Struct, forbid_unknown_fields=True):
    """A story and the notifications it must give, in order; none means it must stay silent."""

    name: str
    alerts: list[AlertSpec]
    expect: list[Expected]


class RuleFile(Struct, forbid_unknown_fields=True):
    """A correlation rule as written in YAML."""

    id: str
    name: str
    groups: dict[str, GroupSpec]
    cases: list[CaseSpec]
    description: str = ""
    version: int = 1
    tags: list[str] = []
    scope: Literal["session", "container"] = "session"
    window: Duration = lasting("15m")
    incident: IncidentSpec = field(default_factory=IncidentSpec)
    lineage: LineageSpec = field(default_factory=LineageSpec)
    anchor: AnchorSpec | None = None
    triage: list[TriageStep] = []
    tests: list[RuleTest] = []


class Case(Struct, frozen=True):
    """A compiled row of the case table."""

    name: str
    severity: Severity
    rank: int


class CorrelationRule:
    """A rule ready to run.

    `table[mask]` is the index of the case for a mask of groups, or NO_CASE; `outcomes` says the same with -1 for none.
    """

    def __init__(self, written: RuleFile, table: bytes, where: str = "") -> None:
        self.written = written
        self.where = where
        self.id = written.id
        self.name = written.name
        self.groups = tuple(written.groups)
        self.table = table
        self.outcomes = tuple(-1 if found == NO_CASE else found for found in table)
        self.cases = tuple(Case(case.name, case.severity, RANK[case.severity]) for case in written.cases)
        self.window = int(written.window)
        self.quiet = int(written.incident.quiet)
        self.longest = int(written.incident.longest)
        self.wide = written.scope == "container"
        self.sticky = self.mask(name for name, group in written.groups.items() if group.sticky)
        self.anchoring = self.mask(written.anchor.groups if written.anchor else self.groups)

    def mask(self, names: Iterable[str]) -> int:
        """The bits of these groups."""
        return sum(1 << self.groups.index(name) for name in names)

    def named(self, mask: int) -> tuple[str, ...]:
        """The names of the groups in a mask, in the rule's order."""
        return tuple(name for bit, name in enumerate(self.groups) if mask >> bit & 1)

    def case(self, mask: int) -> int:
        """The index of the first case that holds for these groups, or -1."""
        return self.outcomes[mask]

    def is_service(self, name: str) -> bool:
        """Whether a process of this name belongs to a service that contexts hang on."""
        return name in self._exact or name.startswith(self._prefixes)

    @cached_property
    def trait_bits(self) -> tuple[tuple[str, int], ...]:
        """Each trait with the groups it counts for."""
        groups = self.written.groups.items()
        return tuple((trait, self.mask([name])) for name, group in groups for trait in group.traits)

    @cached_property
    def _exact(self) -> frozenset[str]:
        return frozenset(name for name in self._services if not name.endswith("*"))

    @cached_property
    def _prefixes(self) -> tuple[str, ...]:
        return tuple(name[:-1] for name in self._services if name.endswith("*"))

    @cached_property
    def _services(self) -> list[str]:
        return self.written.anchor.services if self.written.anchor else []


def load(paths: Iterable[Path]) -> list[CorrelationRule]:
    """Load rule files and folders of them; raises ConfigError with every problem in every file."""
    rules: list[CorrelationRule] = []
    problems: list[str] = []
    for path in _files(paths):
        try:
            rules.append(compiled(build(RuleFile, read_yaml(path), str(path)), str(path)))
        except ConfigError as error:
            problems += [lines.located(path, problem) for problem in error.problems]
    twice = sorted({rule.id for rule in rules if sum(rule.id == other.id for other in rules) > 1})
    problems += [f"two rule files have the id {name!r}: ids must be unique" for name in twice]
    if not rules and not problems:
        problems = [f"no rule files (*.yaml) in {', '.join(map(str, paths))}"]
    if problems:
        raise ConfigError("", problems)
    return rules


def compiled(written: RuleFile, where: str) -> CorrelationRule:
    """Check what the types cannot, and make the case table."""
    expressions, problems = _conditions(written)
    problems += _mistakes(written)
    if problems:
        raise ConfigError(where, problems)
    rule = CorrelationRule(written, conditions.table(expressions, list(written.groups)), where)
    unreachable = [
        f"cases[{index}]: {case.name!r} can never be reached: an earlier case holds whenever it does"
        for index, case in enumerate(rule.cases)
        if index not in rule.table
    ]
    if unreachable:
        raise ConfigError(where, unreachable)
    return rule


def _conditions(written: RuleFile) -> tuple[list[Any], list[str]]:
    expressions, problems = [], []
    for index, case in enumerate(written.cases):
        try:
            expressions.append(conditions.parse(case.when, list(written.groups)))
        except ValueError as error:
            problems.append(f"cases[{index}].when: {error}")
    return expressions, problems


def _mistakes(written: RuleFile) -> Iterator[str]:
    if not written.cases:
        yield "cases: a rule needs at least one case"
    yield from _name_mistakes(written)
    if len(written.groups) > MAX_GROUPS:
        yield f"groups: {len(written.groups)} groups, at most {MAX_GROUPS} are supported"
    yield from _group_mistakes(written)
    if written.scope == "session" and written.anchor is None:
        yield "anchor: is missing: `scope: session` needs to know which groups a context hangs on"
    if written.anchor:
        yield from _unknown_groups(written, written.anchor.groups, "anchor.groups")
    for index, test in enumerate(written.tests):
        for number, alert in enumerate(test.alerts):
            yield from _unknown_groups(written, alert.detect, f"tests[{index}].alerts[{number}].detect")
    yield from _triage_mistakes(written)


def _name_mistakes(written: RuleFile) -> Iterator[str]:
    cases = ((f"cases[{index}].name", case.name) for index, case in enumerate(written.cases))
    for path, name in (("id", written.id), ("name", written.name), *cases):
        if not name or escape.sentence(name) != name:
            yield f"{path}: {escape.terminal(name)!r} is empty, or holds what steers a terminal or a chat"


def _group_mistakes(written: RuleFile) -> Iterator[str]:
    for name, group in written.groups.items():
        if not name.isidentifier() or name in ("and", "or", "not"):
            yield f"groups.{name}: a group's name is a word such as shell_technique"
        if not (group.tags or group.rules or group.stock or group.traits):
            yield f"groups.{name}: names no tags, no rules and no traits, so nothing can count for it"
        for index, sentence in enumerate(group.tell):
            yield from placeholders.mistakes(f"groups.{name}.tell[{index}]", sentence, placeholders.TELL)
    for tag in written.tags:
        if not _FIELD_NAME.fullmatch(tag):
            yield f"tags: {tag!r} may hold only letters, digits, `_` and `.` (Falco Talon cannot match others)"


def _unknown_groups(written: RuleFile, names: list[str], path: str) -> Iterator[str]:
    for name in names:
        if name not in written.groups:
            yield f"{path}: {conditions.unknown([name], list(written.groups))}"


def _triage_mistakes(written: RuleFile) -> Iterator[str]:
    for index, step in enumerate(written.triage):
        for place in ("pod", "container", "host"):
            yield from placeholders.mistakes(f"triage[{index}].{place}", getattr(step, place), placeholders.TRIAGE)
        if escape.sentence(step.do) != step.do or not step.do:
            yield f"triage[{index}].do: {escape.terminal(step.do)!r} is empty, or steers a terminal or a chat"


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(path.glob("*.yaml")) if path.is_dir() else [path]
