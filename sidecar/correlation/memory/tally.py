"""Counts the different values of a field, or finds one value in several groups, within a time.

Times are rounded to an eighth of it, and sightings are kept as a set of (time, value): so what comes in another order,
or twice, gives the same. It is bounded: values beyond those that a condition needs are not kept, nor times long past.
"""

from collections.abc import Callable

from msgspec import Struct, field

from sidecar.model import Alert, Fields
from sidecar.rules.counters import Counter

PARTS = 8
"""Parts of the time within which is counted."""

MAX_PARTS = 2 * PARTS
"""Parts that are kept, the newest ones."""

MAX_COMPARED = 256
"""Values of one part of the time that are kept to be compared between groups."""

ENTRY_BYTES = 120
"""Bytes of a value that is kept."""


_EXECS = frozenset(("execve", "execveat"))


def value_of(name: str, alert: Alert) -> object:
    """The value of a field of `counters.COUNTED_FIELDS` in an alert; None or "" if it has none.

    The file of a start of a program is the program's.
    """
    fields: Fields = alert.fields
    match name:
        case "file":
            return fields.exepath if fields.evt_type in _EXECS else fields.file
        case "remote":
            return fields.remote_ip
        case "port":
            return fields.remote_port
        case "program":
            return fields.exepath or fields.name
        case "user":
            return fields.uid
    return fields.cmdline


class _Part(Struct):
    newest: int
    """The newest event time (ns) in this part."""
    values: dict[int, int] = field(default_factory=dict)
    """By the hash of a value the mask of groups that it was seen in."""


class Tally(Struct):
    """The sightings of one counter in one context. `mask` has the bits of its groups."""

    counter: Counter
    mask: int
    part_ns: int
    parts: dict[int, _Part] = field(default_factory=dict)
    size: int = 0
    """Values that are kept."""
    shed: int = 0
    """Values that were given up since this was last set to 0."""

    def add(self, time: int, value: int, groups: int) -> int:
        """Add a value seen at `time` (ns) in `groups`.

        Returns:
            The newest event time (ns) of the sightings that make the condition true, 0 if none do.
        """
        number = time // self.part_ns
        part = self._part(number, time)
        if part is None:
            return 0
        seen = part.values.get(value)
        if seen is None:
            if len(part.values) >= (self.counter.different or MAX_COMPARED):
                self.shed += not self.counter.different  # more different ones than needed change nothing
                return self._true_at(number)
            self.size += 1
        part.values[value] = (seen or 0) | groups & self.mask
        return self._true_at(number)

    def clear(self) -> None:
        """Give up all that is kept."""
        self.shed += self.size
        self.size = 0
        self.parts.clear()

    def absorb(self, other: "Tally") -> int:
        """Take over what another context has seen. Returns the same as `add`."""
        true_at = 0
        for part in other.parts.values():
            for value, groups in part.values.items():
                true_at = max(true_at, self.add(part.newest, value, groups))
        return true_at

    def translate(self, translated: Callable[[int], int]) -> None:
        """Change the bits of the groups to those of a changed rule."""
        self.mask = translated(self.mask)
        for part in self.parts.values():
            part.values = {value: translated(groups) for value, groups in part.values.items()}

    def _part(self, number: int, time: int) -> _Part | None:
        """The part of a number; None if it is long past."""
        part = self.parts.get(number)
        if part is None:
            if self.parts and number <= max(self.parts) - MAX_PARTS:
                self.shed += 1
                return None
            part = self.parts[number] = _Part(time)
            for past in [each for each in self.parts if each <= number - MAX_PARTS]:
                gone = self.parts.pop(past)
                self.size -= len(gone.values)
        elif time > part.newest:
            part.newest = time
        return part

    def _true_at(self, number: int) -> int:
        """When the condition was last true in one of the windows that a part lies in, 0 if in none."""
        for first in range(number, number - PARTS, -1):
            window = [self.parts[each] for each in range(first, first + PARTS) if each in self.parts]
            if self._holds(window):
                return max(part.newest for part in window)
        return 0

    def _holds(self, window: list[_Part]) -> bool:
        if self.counter.different:
            different: set[int] = set()
            for part in window:
                different.update(part.values)
            return len(different) >= self.counter.different
        together: dict[int, int] = {}
        for part in window:
            for value, groups in part.values.items():
                together[value] = together.get(value, 0) | groups
        return self.mask in together.values()
