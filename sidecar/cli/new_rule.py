"""Writes a starting point for a correlation rule: commented, with tests inside that pass.

Groups come from the command line, or are proposed from the Falco rules that recorded alerts name: rules with the same
MITRE tactic form a group. The file itself is the template `new_rule.yaml.j2`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sidecar.alerts import decode
from sidecar.errors import AlertError, ConfigError
from sidecar.rules.loading import MAX_GROUPS, SHIPPED, compiled
from sidecar.rules.spec import RuleFile
from sidecar.sources import replay
from sidecar.yamlfile.typed import build, parse_yaml

TAG = "tag:"
"""Marks a tag where names of Falco rules are expected."""

EXAMPLE = {"shell": ["Run shell untrusted"], "network": ["Launch Suspicious Network Tool in Container"]}
"""The groups if none are given: stock rules of Falco."""

SCHEMA = SHIPPED / "correlation-rule.schema.json"


class NewRule(NamedTuple):
    """A rule to write: its groups have the Falco rules and tags of each, and `seen` says how often each was seen."""

    id: str
    groups: Mapping[str, Sequence[str]]
    scope: str = "session"
    seen: Mapping[str, int] = {}
    schema: str = SCHEMA.name


def write(
    file: Path, name: str, given: Sequence[tuple[str, str]], recorded: Path | None = None, scope: str = "session"
) -> None:
    """Write the rule, and the JSON Schema beside it unless the rule is one of those that ship with this package.

    Raises ConfigError, and then nothing is written.
    """
    groups, seen = _groups(given, recorded)
    is_shipped = file.absolute().parent == SHIPPED / "correlation"
    content = text(NewRule(name, groups or EXAMPLE, scope, seen, f"../{SCHEMA.name}" if is_shipped else SCHEMA.name))
    compiled(build(RuleFile, parse_yaml(content.encode(), str(file)), str(file)), str(file))
    try:
        with file.open("x") as out:
            out.write(content)
        if not is_shipped:
            file.with_name(SCHEMA.name).write_bytes(SCHEMA.read_bytes())
    except FileExistsError:
        raise ConfigError(str(file), ["exists already; choose another with --output"]) from None
    except OSError as error:
        raise ConfigError(str(file), [f"cannot be written: {error.strerror}"]) from None


def _groups(given: Sequence[tuple[str, str]], recorded: Path | None) -> tuple[dict[str, list[str]], Mapping[str, int]]:
    """The given groups with the proposed ones after them, and how often each Falco rule was seen."""
    groups: dict[str, list[str]] = {}
    for group, member in given:
        groups.setdefault(group, []).append(member)
    if recorded is None:
        return groups, {}
    proposals, seen = proposed(replay.alerts([str(recorded)], lambda _: None))
    named = {member for members in groups.values() for member in members}
    for group, rules in proposals.items():
        if others := [rule for rule in rules if rule not in named]:
            groups.setdefault(group, []).extend(others)
    if not groups:
        raise ConfigError(str(recorded), ["contains no alerts of Falco, so no groups can be proposed"])
    return groups, seen


def proposed(lines: Iterable[bytes]) -> tuple[dict[str, list[str]], Counter[str]]:
    """Groups for the Falco rules in recorded alerts, the most frequent first, and how often each rule was seen."""
    seen: Counter[str] = Counter()
    group: dict[str, str] = {}
    for body in lines:
        try:
            envelope = decode.envelope(body)
            envelope.check()
            rule, tags = envelope.rule, envelope.tags
        except (AlertError, UnicodeDecodeError):
            continue
        seen[rule] += 1
        tactics = (tag.removeprefix("mitre_") for tag in tags if tag.startswith("mitre_"))
        group[rule] = next((each for each in tactics if each.isidentifier()), "other")
    groups: dict[str, list[str]] = {}
    for rule, _ in seen.most_common():
        groups.setdefault(group[rule], []).append(rule)
    return dict(list(groups.items())[:MAX_GROUPS]), seen


def text(rule: NewRule) -> str:
    """The rule file. Raises ConfigError if a name cannot be used."""
    _check(rule)
    first, *others = rule.groups
    template = _templates().get_template("new_rule.yaml.j2")
    return template.render(rule=rule, first=first, others=others, cases=_cases(rule), subject=_subject(rule))


def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - it renders YAML, and `quoted` makes texts safe there
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters.update(quoted=_quoted, words=_words, untagged=lambda member: member.removeprefix(TAG))
    templates.tests["tag"] = lambda member: member.startswith(TAG)
    return templates


def _check(rule: NewRule) -> None:
    problems = []
    if not re.fullmatch(r"[a-z][a-z0-9-]*", rule.id):
        problems.append(f"{rule.id!r}: expected a name of small letters, digits and -, for example crypto-mining")
    problems += [
        f"group {group!r}: expected one word such as first_sign"
        for group in rule.groups
        if not group.isidentifier() or group in ("and", "or", "not")
    ]
    if len(rule.groups) > MAX_GROUPS:
        problems.append(f"{len(rule.groups)} groups, at most {MAX_GROUPS} are supported")
    members = Counter(member for group in rule.groups.values() for member in set(group))
    twice = [member for member, count in members.items() if count > 1]
    problems += [f"{member!r}: is in more than one group; list it once" for member in twice]
    if problems:
        raise ConfigError("new-rule", problems)


class Case(NamedTuple):
    """A row of the case table: the groups that make it, and its severity."""

    name: str
    severity: str
    groups: list[str]


def _cases(rule: NewRule) -> list[Case]:
    """All groups together, then the first group with each other one."""
    first, *others = rule.groups
    subject = _subject(rule)
    if not others:
        return [Case(subject, "medium", [first])]
    severity = "high" if len(others) == 1 else "medium"
    pairs = [Case(f"{subject}, {_words(first)} with {_words(other)}", severity, [first, other]) for other in others]
    if len(others) == 1:
        return pairs
    return [Case(f"{subject}, all signs", "critical", [first, *others]), *pairs]


def _subject(rule: NewRule) -> str:
    return rule.id.replace("-", " ").capitalize()


def _words(name: str) -> str:
    return name.replace("_", " ")


def _quoted(value: str) -> str:
    """The text unchanged if YAML reads it as a string, else in quotes."""
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_ ./()-]*[A-Za-z0-9_)]", value) and value.lower() not in _WORDS
    safe = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08X}" for c in value)
    return value if plain else f'"{safe}"'


_WORDS = frozenset(("true", "false", "yes", "no", "on", "off", "null"))
