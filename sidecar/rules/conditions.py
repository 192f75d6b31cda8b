"""Compiles conditions over groups (`web_shell and (network or credential)`) to a table over the mask of groups.

A few groups have few combinations, so all of them are evaluated at load time, and finding a case is one look-up. The
language is `and`, `or`, brackets and names of groups: a subset of Python's expressions, parsed by Python's own parser.
"""

import ast
from collections.abc import Sequence

from sidecar.text.suggestion import did_you_mean

MAX_CONDITION_CHARS = 2_000

NO_CASE = -1
"""The table's entry for a mask of groups that is not a case."""

_WORDS: dict[type[ast.AST], str] = {ast.BitAnd: "and", ast.Mult: "and", ast.BitOr: "or", ast.Add: "or"}
"""Operators of other languages, with their names here."""


class ConditionError(ValueError):
    """A condition is not valid. The text says what is wrong, where, and what to write instead."""


def parse(text: str, groups: Sequence[str]) -> ast.expr:
    """The tree of one condition: BoolOp nodes over Name nodes, whose ids are in `groups`.

    Raises:
        ConditionError: it is anything else. `not` is refused too: severity only rises as evidence is added, and a
            negation would let it fall.
    """
    line = " ".join(text.split())
    if len(line) > MAX_CONDITION_CHARS:
        raise ConditionError(f"is longer than {MAX_CONDITION_CHARS} characters")
    try:
        tree = ast.parse(line, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ConditionError(_not_a_condition(line, error)) from None
    _check(tree, line, groups)
    return tree


def unknown_group(name: str, groups: Sequence[str]) -> str:
    """The error text for an unknown group, with the most similar name."""
    return f"unknown group {name!r}{did_you_mean(name, groups)} (known: {', '.join(groups)})"


def table(expressions: Sequence[ast.expr], groups: Sequence[str]) -> tuple[int, ...]:
    """For each mask of groups (bit i is groups[i]) the index of the first condition that is true, or NO_CASE."""
    bits = {group: 1 << bit for bit, group in enumerate(groups)}
    return tuple(
        next((index for index, expression in enumerate(expressions) if _holds(expression, mask, bits)), NO_CASE)
        for mask in range(1 << len(groups))
    )


def _not_a_condition(line: str, error: Exception) -> str:
    upper_case = [word for word in line.split() if word in ("AND", "OR")]
    if upper_case:
        return f"`{upper_case[0]}`: operators are written in lower case, did you mean `{upper_case[0].lower()}`?"
    column = error.offset or 0 if isinstance(error, SyntaxError) else 0
    place = f"see character {column}" if 0 < column <= len(line) else "it ends too soon"
    return f"is not a condition such as `a and (b or c)`: {place}"


def _check(node: ast.expr, line: str, groups: Sequence[str]) -> None:
    if isinstance(node, ast.BoolOp):
        for part in node.values:
            _check(part, line, groups)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        raise ConditionError("`not` is not allowed: severity must never fall as evidence is added")
    elif isinstance(node, ast.Name):
        if node.id not in groups:
            raise ConditionError(unknown_group(node.id, groups))
    else:
        raise ConditionError(_refusal(node, line))


def _refusal(node: ast.expr, line: str) -> str:
    segment = ast.get_source_segment(line, node) or line
    word = _WORDS.get(type(node.op)) if isinstance(node, ast.BinOp) else None
    meant = f", did you mean `{word}`?" if word else ""
    place = f"at character {node.col_offset + 1}"
    return f"`{segment}` {place}: only `and`, `or`, brackets and names of groups are allowed{meant}"


def _holds(node: ast.expr, mask: int, bits: dict[str, int]) -> bool:
    if isinstance(node, ast.Name):
        return bool(mask & bits[node.id])
    assert isinstance(node, ast.BoolOp)  # noqa: S101 - `parse` refuses everything else
    parts = (_holds(part, mask, bits) for part in node.values)
    return all(parts) if isinstance(node.op, ast.And) else any(parts)
