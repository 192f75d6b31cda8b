"""What secrets look like, loaded from `secrets.toml` and compiled: tokens, patterns, names, and options of programs."""

import re
from collections.abc import Iterable, Sequence
from functools import cache, cached_property, lru_cache
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import msgspec
from msgspec import Struct

from sidecar.text.redaction.programs import Program, Programs

FILE = Path(__file__).with_name("secrets.json")
"""Made by `make docs` from `secrets.toml`, without the examples: TOML takes 11 ms of a start, this a third of one."""

MAX_CHARS_TO_PROGRAM = 512
"""Characters between a program and an option that it declares harmless; more is not looked through for each option."""

TOKEN, PROGRAM, RULES = 1, 2, 4
"""Bits of the traces of secrets: hints of tokens, names of programs, and, from RULES on, hints of each row of rules."""

MAX_REMEMBERED_TRACES = 256

_COMMON_CHARS = "-./_tesaoinrclphdmugfbykvwxqzj0123456789:=@ "
"""From the commonest in command lines on; all others (capital letters, `~`) count as rarer."""

_STARTS = r"(?:(?<![A-Za-z0-9_-])|(?<=%[0-9A-Fa-f]{2}))"
_VALUE = r"""(?:"(?P<dq>[^"\s][^"]{0,4095})"?|'(?P<sq>[^'\s][^']{0,4095})'?|(?P<s>[^\s"'][^\s;|<>]{0,4095}))"""

REFERENCE = re.compile(
    r"`|id=|(?:file|env|fd):|\$(?:[({]|[A-Z_][A-Z0-9_]*\b|[a-z_][a-z0-9_]*(?=[\"')]|$))|%[sv]\b|<[\w-]+>|\{\{|/[\w.-]+(?:/[\w.-]+)+|(?:\.\.?/)+[\w./-]*$|/[\w.-]+$"
)
"""Values that name the place of a secret: a variable, a template, a path."""


class Token(Struct, forbid_unknown_fields=True):
    """A value that identifies itself. It is searched for only where one of `hints` is in the text."""

    name: str
    hints: list[str]
    pattern: str
    masked: list[str] = []
    kept: list[str] = []


class Pattern(Struct, forbid_unknown_fields=True):
    """A value recognised by what stands around it: group `s`, where one of `hints`, and `needs`, is in the text."""

    name: str
    hints: list[str]
    pattern: str
    masked: list[str] = []
    kept: list[str] = []
    needs: str = ""


class Names(Struct, forbid_unknown_fields=True):
    """Words that announce a secret, and what says that there is none after all; see `secrets.toml`."""

    hints: list[str]
    parts: list[str]
    words: list[str]
    query: list[str]
    harmless_ends: frozenset[str]
    harmless_starts: tuple[str, ...]
    harmless_values: frozenset[str]
    masked: list[str] = []
    kept: list[str] = []


class Secrets(Struct, forbid_unknown_fields=True):
    """The whole of `secrets.toml`."""

    tokens: list[Token]
    names: Names
    patterns: list[Pattern]
    programs: list[Program]


class Rule:
    """Searched for only where one of `hints` is in the lower-case text, and `needs` in the text; masks dq, sq and s."""

    def __init__(self, hints: Sequence[str], pattern: str, needs: str = "") -> None:
        self.hints = tuple(hints)
        self.needs = needs
        self._pattern = pattern

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Compiled for the first text with a hint, since that takes a millisecond."""
        return re.compile(self._pattern, re.IGNORECASE | re.DOTALL | re.ASCII)


class AnyHint:
    """Whether any of some hints is in a text, at half of what it costs to look for each.

    A hint is looked for only if the text has its rarest character, and not if it contains another hint, which is then
    found before it. None that is looked for spans words.
    """

    def __init__(self, hints: Iterable[str]) -> None:
        words = list(dict.fromkeys(hints))
        needed = [word for word in words if not any(other != word and other in word for other in words)]
        by_mark: dict[str, list[str]] = {}
        for word in needed:
            by_mark.setdefault(max(word, key=_rarity), []).append(word)
        if any(word.split() != [word] for word in needed):
            raise ValueError("a hint with a blank in it needs another one that is a part of it")
        self._marked = [(mark, tuple(group)) for mark, group in by_mark.items() if len(group) > 1]
        self._others = tuple([group[0] for group in by_mark.values() if len(group) == 1])

    def is_in(self, text: str) -> bool:
        """Whether one of the hints is in a text."""
        for hint in self._others:
            if hint in text:
                return True
        for mark, hints in self._marked:
            if mark in text:
                for hint in hints:
                    if hint in text:
                        return True
        return False


class Patterns:
    """Compiled patterns. `added` are the user's tokens, beside those of the file."""

    def __init__(self, secrets: Secrets, added: Sequence[Token] = ()) -> None:
        tokens = [*secrets.tokens, *added]
        rules = [Rule(each.hints, each.pattern, each.needs) for each in secrets.patterns]
        rules += _rules_of_names(secrets.names)
        self.token_hints = tuple(dict.fromkeys(hint for token in tokens for hint in token.hints))
        self.any_token_hint = AnyHint(self.token_hints)
        rule_hints = [hint for rule in rules for hint in rule.hints]
        self.any_rule_hint = AnyHint(rule_hints)
        names = [name for row in secrets.programs for name in row.names]
        self.letterless_hint = AnyHint(
            [word for word in (*self.token_hints, *rule_hints, *names) if word.lower() == word.upper()]
        )
        """Of all hints and programs those without a letter: a text without letters can have no other."""
        by_hints = groupby(rules, attrgetter("hints"))
        self.rules = [(RULES << row, hints, [*group]) for row, (hints, group) in enumerate(by_hints)]
        """Rules with the same hints, and the bit of their traces."""
        self._traced: dict[int, list[tuple[Sequence[str], list[Rule]]]] = {}
        self.programs = Programs(secrets.programs)
        self._names = secrets.names
        self._tokens = f"{_STARTS}(?P<s>{'|'.join(token.pattern for token in tokens)})"

    @cached_property
    def tokens(self) -> re.Pattern[str]:
        """All tokens in one pattern, compiled for the first text with a hint of one."""
        return re.compile(self._tokens, re.ASCII)

    def traces(self, words: str) -> int:
        """What in some words calls for a search of the whole text: TOKEN, PROGRAM, and bits of `rules`."""
        low = words.lower()
        if low == words.upper() and not self.letterless_hint.is_in(words):
            return 0  # numbers and signs
        traces = TOKEN * self.any_token_hint.is_in(words) | PROGRAM * self.programs.are_named(words)
        if self.any_rule_hint.is_in(low):
            for bit, hints, _ in self.rules:
                if any(part in low for hint in hints for part in hint.split()):
                    traces |= bit
        return traces

    def traced(self, traces: int) -> list[tuple[Sequence[str], list[Rule]]]:
        """Rules whose bits are among these traces, by their hints: there are few different sums of bits."""
        rows = self._traced.get(traces)
        if rows is None:
            if len(self._traced) >= MAX_REMEMBERED_TRACES:
                self._traced.clear()
            rows = self._traced[traces] = [(hints, rules) for bit, hints, rules in self.rules if traces & bit]
        return rows

    def is_harmless(self, key: str, value: str, text: str, at: int) -> bool:
        """Whether the value behind a telling name at `at` is harmless: `--token-file x`, `PASSWORD=$PASSWORD`."""
        names = self._names
        low = key.lower()
        if re.split(r"[_.-]", low)[-1] in names.harmless_ends or low.lstrip("-").startswith(names.harmless_starts):
            return True
        if len(value) < 3 or value.lower() in names.harmless_values or REFERENCE.match(value):
            return True
        if low in ("pwd", "oldpwd"):
            return value.startswith("/")
        behind = text[at + len(key) : at + len(key) + 2]
        is_prose = behind == ": " and value.isalpha() and "pass" not in low
        return (
            is_prose
            or value.startswith(("==", "~/"))
            or self.programs.declare_harmless(low, text[max(at - MAX_CHARS_TO_PROGRAM, 0) : at])
        )


@cache
def read() -> Secrets:
    """The contents of `secrets.toml`, without the examples."""
    return msgspec.json.decode(FILE.read_bytes(), type=Secrets)


@lru_cache(maxsize=1)
def shipped() -> Patterns:
    """The patterns of `secrets.toml`."""
    return Patterns(read())


def with_added(tokens: Sequence[Token]) -> Patterns:
    """The same with the user's tokens."""
    return Patterns(read(), tokens) if tokens else shipped()


def _rarity(char: str) -> int:
    at = _COMMON_CHARS.find(char)
    return at if at >= 0 else len(_COMMON_CHARS)


def _rules_of_names(names: Names) -> list[Rule]:
    name = (
        rf"(?P<key>[\w.-]{{0,64}}?(?:{_either(names.parts)}|(?<![A-Za-z])(?:{_either(names.words)}))"
        r"s?(?:[0-9]{1,3}|[_.-][\w.-]{0,40})?)"
    )
    query = rf"(?:[\w-]{{0,32}}-)?(?:{_either(names.query)})"
    return [
        Rule(("signature=", "key="), rf"(?<=[?&]){query}=(?P<s>[^\s&#'\"]{{10,4096}})"),
        Rule(names.hints, rf"(?<=[?&]){name}=(?P<s>[^\s&#'\"]{{1,4096}})", "="),
        Rule(
            names.hints,
            rf"(?<![\w.?&-]){name}(?:=|[\"']\s?(?:=>|:=?|=)\s{{0,2}}|\s?(?:=>|:=)\s{{0,2}}|\s=\s|:\s{{1,2}}){_VALUE}",
            "=:",
        ),
        Rule(names.hints, rf"(?<!\S)(?=-){name}\s{{1,4}}(?!-){_VALUE}", "-"),
        Rule(("x-",), rf"(?<![\w.-])x-{name}:(?P<s>[^\s'\"]{{4,4096}})"),
    ]


def _either(words: Sequence[str]) -> str:
    """One of these words; those with the same end (`access_key`, `private_key`) share it, which halves the time."""
    by_end: dict[str, list[str]] = {}
    for word in words:
        start, underscore, end = word.rpartition("_")
        by_end.setdefault(underscore + end if underscore else "", []).append(start or end)
    return "|".join(
        "|".join(_spelt(word) for word in starts) if not end else f"(?:{'|'.join(map(_spelt, starts))}){_spelt(end)}"
        for end, starts in by_end.items()
    )


def _spelt(word: str) -> str:
    return word.replace("_", "[_-]?")
