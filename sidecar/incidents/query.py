"""A query of the list of incidents, as parameters of a URL; errors say which values are valid."""

from typing import get_args
from urllib.parse import parse_qsl

from sidecar.model import Severity
from sidecar.storage.archive import SORTS, Wanted
from sidecar.yamlfile.typed import Duration

SEVERITIES = tuple(reversed(get_args(Severity)))
STATES = ("open", "closed")
ORDERS = ("desc", "asc")
MOST = 200
LONGEST = 200
"""Characters of one value."""

KNOWN = ("severity", "state", "q", "since", "sort", "order", "limit", "offset")


class QueryError(ValueError):
    """The parameters are wrong; the text says which, and what is right."""


def parse(query: str, now: int) -> Wanted:
    """Which incidents are wanted; an empty value is as good as none, so that a form may send all of its fields.

    Raises:
        QueryError: a parameter is unknown or wrong.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise QueryError("more than 20 parameters") from None
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in KNOWN:
            raise QueryError(f"unknown parameter {name[:40]!r}; known are {', '.join(KNOWN)}")
        if len(value) > LONGEST:
            raise QueryError(f"{name}: at most {LONGEST} characters")
        given.setdefault(name, []).extend([value] if value else [])
    one = {name: _single(name, values) for name, values in given.items() if name != "severity"}
    return Wanted(
        severities=_severities(given.get("severity", [])),
        state=_choice("state", one.get("state", ""), STATES),
        text=one.get("q", "").strip(),
        since=_since(one.get("since", ""), now),
        sort=_choice("sort", one.get("sort", ""), tuple(SORTS)) or "last",
        ascending=_choice("order", one.get("order", ""), ORDERS) == "asc",
        limit=_number("limit", one.get("limit", ""), 1, MOST, 50),
        offset=_number("offset", one.get("offset", ""), 0, 1_000_000, 0),
    )


def _single(name: str, values: list[str]) -> str:
    if len(values) > 1:
        raise QueryError(f"{name}: given {len(values)} times")
    return values[0] if values else ""


def _severities(values: list[str]) -> frozenset[str]:
    words = [word for value in values for word in value.split(",") if word]
    return frozenset(_choice("severity", word, SEVERITIES) for word in words)


def _choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    if value and value not in choices:
        raise QueryError(f"{name}: expected {' or '.join(choices)}, got {value[:40]!r}")
    return value


def _since(value: str, now: int) -> int:
    if not value:
        return 0
    try:
        return now - int(Duration.parse(value))
    except ValueError as error:
        raise QueryError(f"since: {error}"[:200]) from None


def _number(name: str, value: str, least: int, most: int, usual: int) -> int:
    if not value:
        return usual
    number = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else -1
    if not least <= number <= most:
        raise QueryError(f"{name}: expected a number from {least} to {most}, got {value[:40]!r}")
    return number
