"""Falco's condition language, as far as our rules use it: parsed by a grammar, compiled to a function of an event.

It is test equipment: the shipped rules run over events without Falco, in seconds. The semantics are libsinsp's: a check on
a field that has no value is false, whatever the operator (so `x != y` is not the same as `not x = y`); `proc.aname`
without an index is true if it is true for any ancestor; regular expressions are POSIX, match the whole value, and `^` and
`$` hold at line breaks.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import re2
from falco.event import Event
from lark import Lark, Token, Transformer

Test = Callable[[Event], bool]
Value = str | int | bool

GRAMMAR = r"""
?start: either
?either: both ("or" both)*
?both: denied ("and" denied)*
?denied: "not" denied -> negation
       | check
?check: field "exists"                    -> exists
      | field COMPARE value               -> compare
      | field SETOP "(" [value ("," value)*] ")" -> member
      | NAME                              -> macro
      | "(" either ")"
field: FIELD ["[" INDEX "]"]
value: QUOTED | BARE
COMPARE: "<=" | "<" | ">=" | ">" | "==" | "=" | "!=" | /(icontains|contains|startswith|endswith|glob|iglob|regex)(?=\s)/
SETOP.2: /(in|intersects|pmatch)(?=\s*\()/
FIELD.3: /[a-zA-Z]+\w*(\.[a-zA-Z]+\w*)+/
INDEX: /[^\s\[\]"']+/
NAME: /[a-zA-Z_]\w*/
QUOTED.2: /"(\\.|[^"\\])*"|'(\\.|[^'\\])*'/
BARE: /[^\s(),="']+/
%ignore /\s+/
"""
PARSER = Lark(GRAMMAR, parser="lalr")
ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def unquoted(text: str) -> str:
    """The value of a quoted or bare string, with Falco's escapes resolved."""
    if text[:1] not in ("'", '"'):
        return text
    return re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[1]), text[1:-1], flags=re.DOTALL)


@cache
def _regex(pattern: str) -> Any:
    options = re2.Options()
    options.posix_syntax = options.longest_match = True
    return re2.compile(pattern, options=options)


def _number(left: Value, right: str) -> tuple[float, float]:
    return float(left), float(right)


def _equals(left: Value, right: str) -> bool:
    if isinstance(left, bool):
        return left == (right == "true")
    if isinstance(left, int):
        return left == int(right)
    return left == right


COMPARISONS: Mapping[str, Callable[[Value, str], bool]] = {
    "=": _equals,
    "==": _equals,
    "!=": lambda left, right: not _equals(left, right),
    "<": lambda left, right: _number(left, right)[0] < _number(left, right)[1],
    "<=": lambda left, right: _number(left, right)[0] <= _number(left, right)[1],
    ">": lambda left, right: _number(left, right)[0] > _number(left, right)[1],
    ">=": lambda left, right: _number(left, right)[0] >= _number(left, right)[1],
    "contains": lambda left, right: right in str(left),
    "icontains": lambda left, right: right.lower() in str(left).lower(),
    "startswith": lambda left, right: str(left).startswith(right),
    "endswith": lambda left, right: str(left).endswith(right),
    "glob": lambda left, right: fnmatchcase(str(left), right),
    "iglob": lambda left, right: fnmatchcase(str(left).lower(), right.lower()),
    "regex": lambda left, right: _regex(right).fullmatch(str(left)) is not None,
}


def _in_network(left: Value, right: str) -> bool:
    return ipaddress.ip_address(str(left)) in ipaddress.ip_network(right)


def _path_match(left: Value, right: str) -> bool:
    prefix = right.rstrip("/")
    return str(left) == prefix or str(left).startswith(f"{prefix}/")


def _matcher(field: str, operator: str) -> Callable[[Value, str], bool]:
    if operator == "pmatch":
        return _path_match
    return _in_network if field in ("fd.snet", "fd.cnet") else _equals


def _one_of(field: str, items: Sequence[str]) -> Test:
    words = frozenset(items)

    def holds(value: Value) -> bool:
        return value in words if isinstance(value, str) else any(_equals(value, item) for item in items)

    return lambda event: any(holds(value) for value in event.values(field))


class Compiler(Transformer[Token, Any]):
    """Turns a parsed condition into a function; macros and lists are looked up by name."""

    def __init__(self, macros: Mapping[str, Test], lists: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self._macros, self._lists = macros, lists

    def either(self, parts: list[Test]) -> Test:
        return lambda event: any(part(event) for part in parts)

    def both(self, parts: list[Test]) -> Test:
        return lambda event: all(part(event) for part in parts)

    def negation(self, parts: list[Test]) -> Test:
        return lambda event: not parts[0](event)

    def macro(self, parts: list[Token]) -> Test:
        return self._macros[parts[0]]

    def field(self, parts: list[Token | None]) -> str:
        return str(parts[0]) if parts[1] is None else f"{parts[0]}[{parts[1]}]"

    def value(self, parts: list[Token]) -> str:
        return unquoted(parts[0])

    def exists(self, parts: list[str]) -> Test:
        return lambda event: bool(event.values(parts[0]))

    def compare(self, parts: list[str]) -> Test:
        field, operator, right = parts
        holds = COMPARISONS[operator]
        return lambda event: any(holds(left, right) for left in event.values(field))

    def member(self, parts: list[str]) -> Test:
        field, operator, *written = parts
        items = [item for word in written for item in self._lists.get(word, (word,))]
        if operator == "in" and _matcher(field, operator) is _equals:
            return _one_of(field, items)
        holds = _matcher(field, operator)
        return lambda event: any(holds(left, item) for left in event.values(field) for item in items)


def remembered(test: Test) -> Test:
    """The same, evaluated once per event: many rules use the same macros."""

    def answer(event: Event) -> bool:
        known = event.answers.get(test)
        if known is None:
            known = event.answers[test] = test(event)
        return known

    return answer


def compiled(condition: str, macros: Mapping[str, Test], lists: Mapping[str, Sequence[str]]) -> Test:
    """The function that says whether an event meets a condition."""
    test: Test = Compiler(macros, lists).transform(PARSER.parse(condition))
    return test
