"""A query of the list of incidents, as parameters of a URL; errors say which values are valid."""

import re
from datetime import datetime
from typing import get_args
from urllib.parse import parse_qsl

from sidecar.model import Severity
from sidecar.storage.archive import SORT_COLUMNS, IncidentFilter
from sidecar.storage.search_terms import COLUMNS
from sidecar.yamlfile.typed import Duration

SEVERITIES: tuple[str, ...] = tuple(reversed(get_args(Severity)))
STATES = ("open", "closed")
ORDERS = ("desc", "asc")
SORTS = tuple(SORT_COLUMNS)

MAX_LIMIT = 200
"""Incidents on one page."""

MAX_VALUE_CHARS = 200

TERMS = ("namespace", *COLUMNS)
"""Parameters that search one kind of thing."""

PARAMETERS = ("severity", "state", "q", *TERMS, "since", "until", "sort", "order", "limit", "offset", "pretty")

MAX_FIELDS = 40
"""Of a query: every parameter, and every severity by itself."""

MAX_NS = 2**63 - 1
"""The latest time that SQLite takes."""


class QueryError(ValueError):
    """A parameter is wrong; the text says which one, and what is valid."""


def parse(query: str, now: int) -> IncidentFilter:
    """The filter that the parameters describe. An empty value counts as none, so that a form may send all its fields.

    Raises:
        QueryError: a parameter is unknown or wrong.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise QueryError(f"more than {MAX_FIELDS} parameters") from None
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in PARAMETERS:
            raise QueryError(f"unknown parameter {name[:40]!r}; known are {', '.join(PARAMETERS)}")
        if len(value) > MAX_VALUE_CHARS:
            raise QueryError(f"{name}: at most {MAX_VALUE_CHARS} characters")
        given.setdefault(name, []).extend([value] if value else [])
    _choice("pretty", _single("pretty", given.get("pretty", [])), ("true", "false"))
    single = {name: _single(name, values) for name, values in given.items() if name != "severity"}
    return IncidentFilter(
        severities=_severities(given.get("severity", [])),
        state=_choice("state", single.get("state", ""), STATES),
        text=single.get("q", "").strip(),
        since=_time("since", single.get("since", ""), now),
        until=_time("until", single.get("until", ""), now),
        terms=tuple((name, text) for name in TERMS if (text := single.get(name, "").strip())),
        sort=_choice("sort", single.get("sort", ""), SORTS) or "last",
        ascending=_choice("order", single.get("order", ""), ORDERS) == "asc",
        limit=_number("limit", single.get("limit", ""), 1, MAX_LIMIT, 50),
        offset=_number("offset", single.get("offset", ""), 0, 1_000_000, 0),
    )


def is_pretty(query: str) -> bool:
    """Whether JSON is wanted over several lines: `pretty`, `pretty=true`. Raises QueryError for any other value."""
    values = [value for name, value in parse_qsl(query, keep_blank_values=True) if name == "pretty"]
    return _choice("pretty", _single("pretty", values), ("true", "false")) != "false" and bool(values)


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


def _time(name: str, value: str, now: int) -> int:
    """A time in nanoseconds, given as such (RFC 3339) or as how long ago it is; 0 if it is not given."""
    if not value:
        return 0
    if re.match(r"\d{4}-", value, re.ASCII):
        return _absolute(name, value)
    try:
        return max(now - int(Duration.parse(value)), 1)
    except ValueError as error:
        raise QueryError(f"{name}: {error}"[:200]) from None


def _absolute(name: str, value: str) -> int:
    try:
        time = datetime.fromisoformat(value.replace(" ", "+"))  # a + that was not quoted in a URL
        seconds = int(time.timestamp()) if time.tzinfo is not None else None
    except (ValueError, OverflowError):
        seconds = None
    if seconds is None:
        raise QueryError(f"{name}: expected a time such as 2026-11-24T03:00:00Z, got {value[:40]!r}")
    return min(max(seconds * 1_000_000_000, 1), MAX_NS)


def _number(name: str, value: str, minimum: int, maximum: int, default: int) -> int:
    if not value:
        return default
    number = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else -1
    if not minimum <= number <= maximum:
        raise QueryError(f"{name}: expected a number from {minimum} to {maximum}, got {value[:40]!r}")
    return number
