"""A condition over groups (`web_shell and (network or credential)`) becomes a table over the mask of groups.

All states of a handful of groups are few, so they are all tried once, at load time; at run time a case is one look-up.
"""

import difflib
from collections.abc import Sequence
from typing import Any

import boolean

_algebra = boolean.BooleanAlgebra()

NO_CASE = 255
"""The table's entry for a mask of groups that is not a case."""


def parse(text: str, groups: Sequence[str]) -> Any:
    """Parse one condition; raises ValueError saying what is wrong with it.

    `not` is refused: an incident may only rise as evidence is added, and a negation would let it fall.
    """
    try:
        expression = _algebra.parse(text)
    except (boolean.ParseError, TypeError) as error:
        raise ValueError(f"is not a condition such as `a and (b or c)`: {error}") from None
    names = sorted(str(symbol) for symbol in expression.symbols if str(symbol) not in groups)
    if names:
        raise ValueError(unknown(names, groups))
    if _has(expression, _algebra.NOT):
        raise ValueError("`not` is not allowed: severity must never fall as evidence is added")
    if not expression.symbols:
        raise ValueError("names no group")
    return expression


def unknown(names: Sequence[str], groups: Sequence[str]) -> str:
    """Errors for names that are not groups, with the nearest group."""
    close = [near for name in names for near in difflib.get_close_matches(name, groups, 1)]
    meant = f", did you mean {', '.join(map(repr, close))}?" if close else ""
    return f"unknown group {', '.join(map(repr, names))}{meant} (known: {', '.join(groups)})"


def table(expressions: Sequence[Any], groups: Sequence[str]) -> bytes:
    """For each mask of groups (bit i is groups[i]) the index of the first condition that holds, or NO_CASE."""
    return bytes(
        next((i for i, expression in enumerate(expressions) if _holds(expression, mask, groups)), NO_CASE)
        for mask in range(1 << len(groups))
    )


def _holds(expression: Any, mask: int, groups: Sequence[str]) -> bool:
    if expression.isliteral:
        return bool(mask >> groups.index(str(expression)) & 1)
    results = [_holds(part, mask, groups) for part in expression.args]
    return all(results) if isinstance(expression, _algebra.AND) else any(results)


def _has(expression: Any, operator: type) -> bool:
    return isinstance(expression, operator) or any(_has(part, operator) for part in expression.args)
