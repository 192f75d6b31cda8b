"""Budgets that all containers share: who holds how much of something, and who gives when it is used up."""

from collections.abc import Callable

from sidecar.correlation.memory.container import Container

ALARM = 0.8
"""The share of a quota at which it is reported."""


class Budget:
    """One thing that all containers share; `shrink` halves what one container has of it."""

    def __init__(self, room: int, shrink: Callable[[Container], None]) -> None:
        self.room = room
        self.used = 0
        self.shrunk = 0
        self.alarm = ALARM
        """The share at which it is reported: first when it is nearly used up, after that when it is."""
        self.silent_until = 0.0
        self.shrink = shrink
        self._by_size: list[dict[int, Container]] = [{} for _ in range(room.bit_length() + 1)]

    def count(self, container: Container, before: int, after: int) -> bool:
        """Take note that a container holds `after` and no longer `before`; says whether too much is used."""
        self.used += after - before
        if before ^ after > before & after:  # not of the same bit length
            self._by_size[before.bit_length()].pop(id(container), None)
            if after:
                self._by_size[after.bit_length()][id(container)] = container
        return self.used > self.room * self.alarm

    def largest(self) -> Container | None:
        """A container that holds most of it, but for a factor of two."""
        for same in reversed(self._by_size):
            if same:
                return next(iter(same.values()))
        return None

    def spare(self, container: Container) -> None:
        """Ask all others of its size before this container again: it has nothing left to give."""
        for same in self._by_size:
            if same.pop(id(container), None):
                same[id(container)] = container
