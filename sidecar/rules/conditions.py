"""Compiles conditions over groups (`web_shell and (network or credential)`) to a table over the mask of groups.

A few groups have few combinations, so all of them are evaluated at load time, and finding a case is one look-up. The
language is `and`, `or`, brackets, names of groups, and `at least N of (...)`: a subset of Python's expressions, parsed
by Python's own parser. What has to be counted (`sidecar.rules.counters`) is one more bit of the mask.
"""

import ast
import re
from collections.abc import Sequence

from sidecar.rules.counters import PREFIX, ConditionError, Counter, CounterParser, unknown_group
from sidecar.text.suggestion import nearest

MAX_CONDITION_CHARS = 2_000

NO_CASE = -1
"""The table's entry for a mask of groups that is not a case."""

_WORDS: dict[type[ast.AST], str] = {ast.BitAnd: "and", ast.Mult: "and", ast.BitOr: "or", ast.Add: "or"}
"""Operators of other languages, with their names here."""

_OTHER_OPERATORS = {"AND": "and", "OR": "or", "&&": "and", "||": "or"}
"""The same of operators that Python does not know."""

_AT_LEAST = re.compile(r"\bat least (\d+) of(?= ?\()")
_AT_LEAST_NAME = re.compile(r"at_least_(\d+)_of")

_FORMS = (
    (re.compile(r"\bdifferent\b"), "`5 different file within 10m of (a)`"),
    (re.compile(r"\bsame\b"), "`same file in (a, b)`"),
    (re.compile(r"\b(least|of)\b"), "`at least 2 of (a, b, c)`"),
)
"""Words that only mean something in one form of condition, and that form."""


class Conditions:
    """The conditions of the cases of one rule, in their order, and the counters that they name."""

    def __init__(self, groups: Sequence[str]) -> None:
        self.groups = groups
        self._parser = CounterParser(groups)
        self._trees: list[ast.expr] = []

    @property
    def counters(self) -> tuple[Counter, ...]:
        """What has to be counted, in the order of the bits behind those of the groups."""
        return tuple(self._parser.counters)

    def add(self, text: str) -> None:
        """Parse the condition of the next case.

        Raises:
            ConditionError: it is not valid. `not` is refused too: severity only rises as evidence is added, and a
                negation would let it fall.
        """
        line = " ".join(text.split())
        if len(line) > MAX_CONDITION_CHARS:
            raise ConditionError(f"is longer than {MAX_CONDITION_CHARS} characters")
        plain = _AT_LEAST.sub(lambda found: found[0].replace(" ", "_"), self._parser.take_out(line))
        try:
            tree = ast.parse(plain.strip(), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise ConditionError(_not_a_condition(line, error, self.groups)) from None
        self._check(tree, line)
        self._trees.append(tree)

    def table(self) -> tuple[int, ...]:
        """For each mask (bit i is groups[i], then the counters) the index of the first true condition, or NO_CASE."""
        names = [*self.groups, *(f"{PREFIX}{number}" for number in range(len(self.counters)))]
        bits = {name: 1 << bit for bit, name in enumerate(names)}
        return tuple(
            next((index for index, tree in enumerate(self._trees) if _holds(tree, mask, bits)), NO_CASE)
            for mask in range(1 << len(names))
        )

    def _check(self, node: ast.expr, line: str) -> None:
        if isinstance(node, ast.BoolOp):
            parts = node.values
        elif isinstance(node, ast.Call) and (needed := _needed(node)):
            if needed > len(node.args):
                raise ConditionError(f"`at least {needed} of` {len(node.args)} groups can never be true")
            parts = node.args
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            raise ConditionError("`not` is not allowed: severity must never fall as evidence is added")
        elif isinstance(node, ast.Name):
            if node.id not in self.groups and not node.id.startswith(PREFIX):
                raise ConditionError(unknown_group(node.id, self.groups))
            return
        else:
            raise ConditionError(_refusal(node, line))
        for part in parts:
            self._check(part, line)


def _needed(node: ast.Call) -> int:
    """The number in `at least N of (...)`, 0 for any other call."""
    found = _AT_LEAST_NAME.fullmatch(node.func.id) if isinstance(node.func, ast.Name) else None
    return int(found[1]) if found and not node.keywords else 0


def _not_a_condition(line: str, error: Exception, groups: Sequence[str]) -> str:
    other = next((word for word in line.split() if word in _OTHER_OPERATORS), "")
    if other:
        return f"`{other}`: the operators are `and` and `or`, did you mean `{_OTHER_OPERATORS[other]}`?"
    form = next((form for words, form in _FORMS if words.search(line)), "")
    if form:
        return f"is not a condition such as {form}"
    unknown = (word for word in re.findall(r"\w+", line) if word not in ("and", "or", *groups))
    misspelt = next(((word, meant) for word in unknown if (meant := nearest(word.lower(), ("and", "or")))), None)
    if misspelt:
        return f"unknown word {misspelt[0]!r}, did you mean {misspelt[1]!r}?"
    column = error.offset or 0 if isinstance(error, SyntaxError) else 0
    place = f"see character {column}" if 0 < column <= len(line) else "it ends too soon"
    return f"is not a condition such as `a and (b or c)`: {place}"


def _refusal(node: ast.expr, line: str) -> str:
    segment = ast.get_source_segment(line, node) or line
    word = _WORDS.get(type(node.op)) if isinstance(node, ast.BinOp) else None
    meant = f", did you mean `{word}`?" if word else ""
    place = f"at character {node.col_offset + 1}"
    return f"`{segment}` {place}: only `and`, `or`, brackets and names of groups are allowed{meant}"


def _holds(node: ast.expr, mask: int, bits: dict[str, int]) -> bool:
    if isinstance(node, ast.Name):
        return bool(mask & bits[node.id])
    if isinstance(node, ast.Call):
        return sum(_holds(part, mask, bits) for part in node.args) >= _needed(node)
    assert isinstance(node, ast.BoolOp)  # noqa: S101 - `add` refuses everything else
    parts = (_holds(part, mask, bits) for part in node.values)
    return all(parts) if isinstance(node.op, ast.And) else any(parts)
