"""A dictionary that forgets what was not used for a while, and never grows beyond its room.

Two generations of plain dictionaries: entries go into the young one, using an old one brings it back, and when the
young one is full, or half the time is over, it becomes the old one and the former old one is forgotten. Nothing is
tracked per entry, so a use costs a tenth of cachetools' TTLCache, which is right for contexts, but too slow for the
five processes that every detection names.
"""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Generations(Generic[K, V]):
    """Keeps the `room` / 2 entries used last, and at most `room`, `ttl` / 2 to `ttl` seconds after their last use."""

    __slots__ = ("_half", "_half_life", "_old", "_timer", "_turned", "_young")

    def __init__(self, room: int, ttl: float, timer: Callable[[], float]) -> None:
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._half = max(room // 2, 1)
        self._half_life = ttl / 2
        self._timer = timer
        self._turned = timer()

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """How many there are; `len` takes twice as long to find that out."""
        return len(self._young) + len(self._old)

    def __iter__(self) -> Iterator[K]:
        return iter([*self._old, *self._young])

    def __contains__(self, key: K) -> bool:
        return key in self._young or key in self._old

    def get(self, key: K) -> V | None:
        """The value of a key, which is thereby used; None if it is unknown or forgotten."""
        found = self._young.get(key)
        if found is None and key in self._old:
            found = self._old[key]
            self[key] = found
        return found

    def __setitem__(self, key: K, value: V) -> None:
        if key not in self._young:
            self._old.pop(key, None)
            if len(self._young) >= self._half:
                self._turn()
        self._young[key] = value

    def add(self, key: K, value: V) -> bool:
        """Take in a key; says whether it was unknown."""
        if key in self._young or key in self._old:
            return False
        if len(self._young) >= self._half:
            self._turn()
        self._young[key] = value
        return True

    def age(self) -> None:
        """Forget what is too old; call it now and then, before `get`."""
        late = self._timer() - self._turned
        if late > self._half_life:
            self._turn()
            if late > 2 * self._half_life:
                self._old = {}

    def forget_half(self) -> dict[K, V]:
        """Forget the old generation; the young one becomes the old. Returns what was forgotten."""
        forgotten = self._old
        self._turn()
        return forgotten

    def _turn(self) -> None:
        self._old, self._young = self._young, {}
        self._turned = self._timer()
