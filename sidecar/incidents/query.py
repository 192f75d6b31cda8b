"""A query of the list of incidents, as parameters of a URL; errors say which values are valid."""

from typing import get_args
from urllib.parse import parse_qsl

from sidecar.model import Severity
from sidecar.storage.archive import SORT_COLUMNS, IncidentFilter
from sidecar.yamlfile.typed import Duration

SEVERITIES: tuple[str, ...] = tuple(reversed(get_args(Severity)))
STATES = ("open", "closed")
ORDERS = ("desc", "asc")
SORTS = tuple(SORT_COLUMNS)

MAX_LIMIT = 200
"""Incidents on one page."""

MAX_VALUE_CHARS = 200

PARAMETERS = ("severity", "state", "q", "since", "sort", "order", "limit", "offset", "pretty")


class QueryError(ValueError):
    """A parameter is wrong; the text says which one, and what is valid."""


def parse(query: str, now: int) -> IncidentFilter:
    """The filter that the parameters describe. An empty value counts as none, so that a form may send all its fields.

    Raises:
        QueryError: a parameter is unknown or wrong.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise QueryError("more than 20 parameters") from None
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
        since=_since(single.get("since", ""), now),
        sort=_choice("sort", single.get("sort", ""), SORTS) or "last",
        ascending=_choice("order", single.get("order", ""), ORDERS) == "asc",
        limit=_number("limit", single.get("limit", ""), 1, MAX_LIMIT, 50),
        offset=_number("offset", single.get("offset", ""), 0, 1_000_000, 0),
    )


def is_pretty(query: str) -> bool:
    """Whether JSON is wanted over several lines."""
    return any(name == "pretty" and value != "false" for name, value in parse_qsl(query, keep_blank_values=True))


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
        return max(now - int(Duration.parse(value)), 0)
    except ValueError as error:
        raise QueryError(f"since: {error}"[:200]) from None


def _number(name: str, value: str, minimum: int, maximum: int, default: int) -> int:
    if not value:
        return default
    number = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else -1
    if not minimum <= number <= maximum:
        raise QueryError(f"{name}: expected a number from {minimum} to {maximum}, got {value[:40]!r}")
    return number
