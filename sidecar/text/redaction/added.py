"""Tokens that a user adds: `acme_[A-Za-z0-9]{32}`, a subset of regular expressions that takes little time on any text.

A pattern starts with three or more fixed characters, by which it is found, followed by characters and classes of
them, each repeated a bounded number of times. What follows a part whose length varies must not match the same
characters: then there is one way to match, and nothing is tried twice.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from sidecar.text.redaction.patterns import Token

MIN_FIXED_CHARS = 3
MAX_REPEAT = 255
MAX_PARTS = 32

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_PART = re.compile(
    r"(?P<class>\[(?:[A-Za-z0-9_.~+/=:@%!#-]|\\[\w.\-\[\]^\\])+\]|\\[wd])|(?P<literal>\\[^\sA-Za-z0-9]|[A-Za-z0-9_~=:@%!#,;/<>&'\"`-])",
    re.ASCII,
)
_REPEAT = re.compile(r"\{(\d{1,3})(?:,(\d{1,3}))?\}|(\?)")


class _Part(NamedTuple):
    text: str
    chars: frozenset[str]
    least: int
    most: int
    is_literal: bool


class BadPatternError(ValueError):
    """A pattern that is refused, with the reason."""


def token(name: str, pattern: str, example: str) -> Token:
    """Make a token of what a user wrote.

    Raises:
        BadPatternError: the pattern is outside of the subset, or does not match the example.
    """
    parts = _parts(pattern)
    hint = ""
    for part in parts:
        if not part.is_literal or (part.least, part.most) != (1, 1):
            break
        hint += part.text[-1]
    if len(hint) < MIN_FIXED_CHARS:
        raise BadPatternError(f"must start with at least {MIN_FIXED_CHARS} fixed characters, such as a prefix")
    _refuse_ambiguous(parts)
    if not re.fullmatch(pattern, example, re.ASCII):
        raise BadPatternError(f"does not match the whole of the example {example!r}")
    return Token(name, [hint], pattern)


def _parts(pattern: str) -> list[_Part]:
    parts = []
    at = 0
    while at < len(pattern):
        found = _PART.match(pattern, at)
        if found is None:
            raise BadPatternError(
                f"{pattern[at]!r} at character {at + 1} is not supported: use characters, classes such as [A-Za-z0-9], "
                r"\w, \d, and repetitions such as {20,40}; write special characters as \. or \+"
            )
        at = found.end()
        least, most, at = _repeat(pattern, at)
        parts.append(_Part(found[0], _chars(found[0]), least, most, found["literal"] is not None))
    if len(parts) > MAX_PARTS:
        raise BadPatternError(f"has {len(parts)} parts, at most {MAX_PARTS} are supported")
    return parts


def _repeat(pattern: str, at: int) -> tuple[int, int, int]:
    """The least and greatest number of repetitions given there, and where the next part starts."""
    found = _REPEAT.match(pattern, at)
    if found is None:
        return 1, 1, at
    if found[3]:
        return 0, 1, found.end()
    least = int(found[1])
    most = int(found[2] or least)
    if not least <= most <= MAX_REPEAT or not most:
        raise BadPatternError(f"{found[0]}: expected a repetition from low to high, up to {MAX_REPEAT}")
    return least, most, found.end()


def _chars(text: str) -> frozenset[str]:
    """The characters that a part of length 1 matches."""
    if "--" in text or "~~" in text:
        raise BadPatternError(f"{text}: write - and ~ in a class once, - at its end")
    try:
        matches = re.compile(text, re.ASCII).fullmatch
    except re.error as error:
        raise BadPatternError(f"{text}: {error}") from None
    return frozenset(filter(matches, _PRINTABLE))


def _refuse_ambiguous(parts: Sequence[_Part]) -> None:
    """Raise BadPatternError if a part of varying length could also take what follows it."""
    for number, part in enumerate(parts):
        if part.least == part.most:
            continue
        for following in parts[number + 1 :]:
            if part.chars & following.chars:
                raise BadPatternError(
                    f"{part.text}{{{part.least},{part.most}}} may match what {following.text} matches after it: "
                    "repeat it a fixed number of times, or leave out of it what follows"
                )
            if following.least:
                break
