"""Conditions that count: `20 different remote within 1m of (scan)` and `same file in (downloaded, started)`.

They are taken out of the text of a case before the rest is parsed (`sidecar.rules.conditions`), and each becomes one
more bit of the mask, which is set while detections arrive (`sidecar.correlation.memory.tally`).
"""

import re
from collections.abc import Sequence

from msgspec import Struct

from sidecar.text.suggestion import did_you_mean
from sidecar.yamlfile.typed import Duration

MAX_DIFFERENT = 100
"""Different values that a condition can ask for."""

COUNTED_FIELDS = ("command", "file", "port", "program", "remote", "user")
"""What of an alert can be counted or compared."""

PREFIX = "_counter_"
"""Begins the names that stand in for counters in a condition."""

_DIFFERENT = re.compile(r"\b(\d+) different (\w+) within (\w+) of ?\(([^()]*)\)")
_SAME = re.compile(r"\bsame (\w+) in ?\(([^()]*)\)")


class ConditionError(ValueError):
    """A condition is not valid. The text says what is wrong, where, and what to write instead."""


class Counter(Struct, frozen=True):
    """A condition on the values that one field has in the detections of some groups.

    It is true if `different` values were seen within `within` nanoseconds; where `different` is 0, if one value was
    seen in each of the groups within the window of the rule.
    """

    field: str
    groups: tuple[str, ...]
    different: int = 0
    within: int = 0

    def __str__(self) -> str:
        groups = f"({', '.join(self.groups)})"
        if not self.different:
            return f"same {self.field} in {groups}"
        return f"{self.different} different {self.field} within {Duration(self.within)} of {groups}"


class CounterParser:
    """Takes the counters out of conditions; the same counter in several of them is one."""

    def __init__(self, groups: Sequence[str]) -> None:
        self.groups = groups
        self.counters: list[Counter] = []

    def take_out(self, line: str) -> str:
        """The condition with a name in place of each counter, as long as before: places in messages stay true.

        Raises:
            ConditionError: a counter names an unknown field or group, or its numbers make no sense.
        """
        return _SAME.sub(self._same, _DIFFERENT.sub(self._different, line))

    def _different(self, found: re.Match[str]) -> str:
        count, name, within, groups = found.groups()
        try:
            duration = Duration.parse(within)
        except ValueError as error:
            raise ConditionError(f"`{found[0]}`: {error}") from None
        if not 2 <= int(count) <= MAX_DIFFERENT:
            raise ConditionError(f"`{found[0]}`: the number must be between 2 and {MAX_DIFFERENT}")
        return self._name(found, Counter(name, self._named(groups, found[0]), int(count), duration))

    def _same(self, found: re.Match[str]) -> str:
        name, groups = found.groups()
        named = self._named(groups, found[0])
        if len(set(named)) < 2:
            raise ConditionError(f"`{found[0]}`: needs two groups, such as `same {name} in (a, b)`")
        return self._name(found, Counter(name, named))

    def _named(self, groups: str, where: str) -> tuple[str, ...]:
        named = tuple(name.strip() for name in groups.split(",") if name.strip())
        if not named:
            raise ConditionError(f"`{where}`: no groups are named in the brackets")
        for name in named:
            if name not in self.groups:
                raise ConditionError(unknown_group(name, self.groups))
        return named

    def _name(self, found: re.Match[str], counter: Counter) -> str:
        if counter.field not in COUNTED_FIELDS:
            meant = did_you_mean(counter.field, COUNTED_FIELDS)
            known = ", ".join(COUNTED_FIELDS)
            raise ConditionError(f"`{found[0]}`: unknown field {counter.field!r}{meant} (known: {known})")
        if counter not in self.counters:
            self.counters.append(counter)
        return f"{PREFIX}{self.counters.index(counter)}".ljust(len(found[0]))


def unknown_group(name: str, groups: Sequence[str]) -> str:
    """The error text for an unknown group, with the most similar name."""
    return f"unknown group {name!r}{did_you_mean(name, groups)} (known: {', '.join(groups)})"
