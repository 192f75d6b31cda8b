"""Writes a starting point for a correlation rule: commented, with tests inside that pass.

Groups come from the command line, or are proposed from Falco rules that a file of alerts shows: those that Falco's
authors gave the same MITRE tactic belong together, which is only a starting point.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sidecar.alerts import decode
from sidecar.errors import AlertError, ConfigError
from sidecar.rules.loading import MAX_GROUPS, SHIPPED, compiled
from sidecar.rules.spec import RuleFile
from sidecar.sources import replay
from sidecar.yamlfile.typed import build, parse_yaml

TAG = "tag:"
"""Before a tag where Falco rule names are given."""

EXAMPLE = {"shell": ["Run shell untrusted"], "network": ["Launch Suspicious Network Tool in Container"]}
"""Groups where none are given: stock rules of Falco."""

SCHEMA = SHIPPED / "correlation-rule.schema.json"


class Wanted(NamedTuple):
    """What the rule is to be: its id, its groups with the Falco rules and tags of each, and how often each was seen."""

    name: str
    groups: Mapping[str, Sequence[str]]
    scope: str = "session"
    seen: Mapping[str, int] = {}


def write(
    file: Path, name: str, given: Sequence[tuple[str, str]], recorded: Path | None = None, scope: str = "session"
) -> None:
    """Write the rule and the JSON Schema beside it. Raises ConfigError, and then nothing is written."""
    groups: dict[str, list[str]] = {}
    for group, member in given:
        groups.setdefault(group, []).append(member)
    seen: Mapping[str, int] = {}
    if recorded:
        more, seen = proposed(replay.alerts([str(recorded)], lambda _: None))
        named = {member for members in groups.values() for member in members}
        for group, rules in more.items():
            if fresh := [rule for rule in rules if rule not in named]:
                groups.setdefault(group, []).extend(fresh)
        if not groups:
            raise ConfigError(str(recorded), ["holds no alerts of Falco, so no groups can be proposed"])
    made = text(Wanted(name, groups or EXAMPLE, scope, seen))
    compiled(build(RuleFile, parse_yaml(made.encode(), str(file)), str(file)), str(file))
    try:
        with file.open("x") as out:
            out.write(made)
        file.with_name(SCHEMA.name).write_bytes(SCHEMA.read_bytes())
    except FileExistsError:
        raise ConfigError(str(file), ["exists already; choose another with --output"]) from None
    except OSError as error:
        raise ConfigError(str(file), [f"cannot be written: {error.strerror}"]) from None


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


def text(wanted: Wanted) -> str:
    """The rule file. Raises ConfigError if a name cannot be used."""
    _check(wanted)
    return "\n".join([*_head(wanted), *_groups(wanted), *_place(wanted), *_cases(wanted), *_tests(wanted)]) + "\n"


def _check(wanted: Wanted) -> None:
    problems = []
    if not re.fullmatch(r"[a-z][a-z0-9-]*", wanted.name):
        problems.append(f"{wanted.name!r}: expected a name of small letters, digits and -, for example crypto-mining")
    problems += [
        f"group {group!r}: expected one word such as first_sign"
        for group in wanted.groups
        if not group.isidentifier() or group in ("and", "or", "not")
    ]
    if len(wanted.groups) > MAX_GROUPS:
        problems.append(f"{len(wanted.groups)} groups, at most {MAX_GROUPS} are supported")
    members = Counter(member for group in wanted.groups.values() for member in set(group))
    problems += [f"{member!r}: stands in two groups; begin with one" for member, times in members.items() if times > 1]
    if problems:
        raise ConfigError("new-rule", problems)


def _head(wanted: Wanted) -> Iterator[str]:
    words = wanted.name.replace("-", " ")
    tag = wanted.name.replace("-", "_")
    yield "# yaml-language-server: $schema=correlation-rule.schema.json"
    yield "#"
    yield "# A correlation rule: Falco rules are assigned to groups; groups that are seen together, in one place and"
    yield "# within the window, are a case. `falco-correlator check FILE` reports mistakes, `test FILE` runs its tests."
    yield f"id: {wanted.name}"
    yield f"name: {words.capitalize()} detected"
    yield "description: Say here what these alerts mean together, in a sentence."
    yield f"tags: [{tag}_incident]  # on every incident; add MITRE techniques, for example T1496"
    yield "window: 15m  # evidence counts together for this long"
    yield "incident: {idle_timeout: 1h, max_duration: 24h}  # closes so long after its last, or its first, evidence"
    yield ""


def _groups(wanted: Wanted) -> Iterator[str]:
    yield "# What counts for which group: names of Falco rules, or tags that Falco rules carry (`tags: [...]`)."
    if wanted.seen:
        yield "# Proposed by MITRE tactic from recorded alerts: move each to where it belongs, and delete the others."
    yield "groups:"
    for group, members in wanted.groups.items():
        tags = [each.removeprefix(TAG) for each in members if each.startswith(TAG)]
        rules = [each for each in members if not each.startswith(TAG)]
        yield f"  {group}:"
        if tags:
            yield f"    tags: [{', '.join(map(_quoted, tags))}]"
        if rules:
            yield "    rules:"
        for rule in rules:
            yield f"      - {_quoted(rule)}" + (f"  # {wanted.seen[rule]} alerts" if rule in wanted.seen else "")
    yield ""


def _place(wanted: Wanted) -> Iterator[str]:
    first = next(iter(wanted.groups))
    if wanted.scope == "container":
        yield "# Everything in one container belongs together. `session` is narrower: what descends from one process."
        yield "scope: container"
    else:
        yield "# What belongs together: a detection of `groups` begins an execution context, and what the parent of its"
        yield "# process starts is in it. With `services` it is what the outermost of them above the process starts."
        yield "scope: session  # `container` is wider: everything in one container"
        yield "anchor:"
        yield f"  groups: [{first}]"
        yield "  services: []  # for example [nginx, php-fpm*]"
    yield ""


def _cases(wanted: Wanted) -> Iterator[str]:
    yield "# The first row that holds is the case. Severities: critical, high, medium, low. Conditions: `and`, `or` and"
    yield "# brackets, no `not`, because more evidence must never make it milder."
    yield "cases:"
    for name, severity, groups in _rows(wanted):
        yield f"  - name: {_quoted(name)}"
        yield f"    severity: {severity}"
        yield f"    when: {' and '.join(groups)}"
    yield ""
    yield "# What to do next. {namespace}, {pod}, {container}, {host}, {pid} and others are filled in when it happens."
    yield "triage:"
    yield "  - do: Look at what runs there"
    yield "    pod: kubectl -n {namespace} exec {pod} -- ps -ef"
    yield "    host: ps -ef"
    yield ""


def _rows(wanted: Wanted) -> Iterator[tuple[str, str, list[str]]]:
    """The first group with each other one, and all of them together."""
    first, *others = wanted.groups
    subject = wanted.name.replace("-", " ").capitalize()
    if not others:
        yield subject, "medium", [first]
    if len(others) > 1:
        yield f"{subject}, all signs", "critical", [first, *others]
    for other in others:
        yield (
            f"{subject}, {_words(first)} with {_words(other)}",
            "high" if len(others) == 1 else "medium",
            [first, other],
        )


def _tests(wanted: Wanted) -> Iterator[str]:
    first, *others = wanted.groups
    yield "# Stories, and the notifications they must give. `detect` stands for any Falco rule of a group (`rule:`"
    yield "# names one); `process` is the line of processes from the container's first one down; `at` is when."
    yield "tests:"
    for name, severity, groups in _rows(wanted):
        if groups != [first, *others] or not others[1:]:
            together = " and ".join(map(_words, groups)).capitalize()
            yield f"  - name: {together} in one place"
            yield "    alerts:"
            yield from (_alert(group, number) for number, group in enumerate(groups))
            yield f"    expect: [{{severity: {severity}, case: {_quoted(name)}}}]"
    if len(others) > 1:
        yield from _all_together(wanted)
    if others:
        yield f"  - name: {_words(first).capitalize()} alone is nothing"
        yield f"    alerts:\n{_alert(first, 0)}"
        yield "    expect: []"
        yield "  - name: Two containers are never one place"
        yield f"    alerts:\n{_alert(first, 0)}\n{_alert(others[0], 1, ', container: other')}"
        yield "    expect: []"


def _all_together(wanted: Wanted) -> Iterator[str]:
    (strongest, severity, groups), (pair, weaker, _), *_ = _rows(wanted)
    yield "  - name: Everything in one place is reported twice, weaker first"
    yield "    alerts:"
    yield from (_alert(group, number) for number, group in enumerate(groups))
    yield "    expect:"
    yield f"      - {{severity: {weaker}, case: {_quoted(pair)}}}"
    yield f"      - {{severity: {severity}, case: {_quoted(strongest)}}}"


def _alert(group: str, second: int, more: str = "") -> str:
    return f"      - {{detect: [{group}], process: tini > app > sh, at: {second}s{more}}}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _quoted(value: str) -> str:
    """As it stands where YAML takes it for text, else in quotes."""
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_ ./()-]*[A-Za-z0-9_)]", value) and value.lower() not in _WORDS
    safe = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08X}" for c in value)
    return value if plain else f'"{safe}"'


_WORDS = frozenset(("true", "false", "yes", "no", "on", "off", "null"))
