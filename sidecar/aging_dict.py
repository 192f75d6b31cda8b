"""A bounded dictionary whose entries expire when they are not used, at a constant cost per use.

It keeps two generations of plain dictionaries. New and used entries go into the young generation; when that is full, or
half the lifetime has passed, it becomes the old generation and the previous old one is dropped. Nothing is tracked per
entry, so a use costs a tenth of what cachetools' TTLCache takes. TTLCache is fine for containers, but too slow for the
five processes that every detection names.
"""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class AgingDict(Generic[K, V]):
    """Keeps at most `capacity` entries, and always the `capacity` / 2 used last.

    An entry expires between `ttl` / 2 and `ttl` seconds of `timer` after its last use.
    """

    __slots__ = ("_half", "_half_life", "_old", "_rotated_at", "_timer", "_young")

    def __init__(self, capacity: int, ttl: float, timer: Callable[[], float]) -> None:
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._half = max(capacity // 2, 1)
        self._half_life = ttl / 2
        self._timer = timer
        self._rotated_at = timer()

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """The number of entries; `len()` takes twice as long to find it out."""
        return len(self._young) + len(self._old)

    def __iter__(self) -> Iterator[K]:
        return iter([*self._old, *self._young])

    def __contains__(self, key: K) -> bool:
        return key in self._young or key in self._old

    def get(self, key: K) -> V | None:
        """The value of a key, or None; counts as a use."""
        value = self._young.get(key)
        if value is None and key in self._old:
            value = self._old[key]
            self[key] = value
        return value

    def __setitem__(self, key: K, value: V) -> None:
        if key not in self._young:
            self._old.pop(key, None)
            if len(self._young) >= self._half:
                self._make_room()
        self._young[key] = value

    def add(self, key: K, value: V) -> bool:
        """Add an entry unless the key is present. Returns whether it was added."""
        if key in self._young or key in self._old:
            return False
        if len(self._young) >= self._half:
            self._make_room()
        self._young[key] = value
        return True

    def keep_for(self, ttl: float) -> None:
        """Change how long entries are kept after their last use, those that are there included."""
        self._half_life = ttl / 2

    def expire(self) -> None:
        """Drop what has expired. Call it now and then, before `get`."""
        elapsed = self._timer() - self._rotated_at
        if elapsed > self._half_life:
            self._rotate()
            if elapsed > 2 * self._half_life:
                self._old = {}

    def evict_old(self) -> dict[K, V]:
        """Drop the old generation and start a new young one. Returns what was dropped."""
        dropped = self._old
        self._rotate()
        return dropped

    def _make_room(self) -> None:
        self._rotate()

    def _rotate(self) -> None:
        self._old = self._young
        self._young = {}
        self._rotated_at = self._timer()
