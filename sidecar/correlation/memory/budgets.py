"""Budgets that all containers share: how much of a resource each holds, and which one gives when it is used up."""

from collections.abc import Callable

from sidecar.correlation.memory.container import Container

ALARM_SHARE = 0.8
"""The share of a quota at which its use is reported."""


class Budget:
    """One resource that all containers share; `shrink` about halves what one container holds of it."""

    def __init__(self, capacity: int, shrink: Callable[[Container], None]) -> None:
        self.capacity = capacity
        self.used = 0
        self.evicted = 0
        """How much was given up in all."""
        self.alarm_share = ALARM_SHARE
        """The share at which the use is reported: first when the budget is nearly used up, after that when it is."""
        self.next_report_at = 0.0
        self.shrink = shrink
        self._by_bit_length: list[dict[int, Container]] = [{} for _ in range(capacity.bit_length() + 1)]

    def update(self, container: Container, before: int, after: int) -> bool:
        """Note that a container now holds `after` instead of `before`. Returns whether the alarm share is exceeded."""
        used = self.used = self.used + after - before
        if before.bit_length() != after.bit_length():
            self._by_bit_length[before.bit_length()].pop(id(container), None)
            if after:
                self._by_bit_length[after.bit_length()][id(container)] = container
        return used > self.capacity * self.alarm_share

    def largest(self) -> Container | None:
        """A container that holds at least half as much as the one that holds most; None if none holds anything."""
        for containers in reversed(self._by_bit_length):
            if containers:
                return next(iter(containers.values()))
        return None

    def defer(self, container: Container) -> None:
        """Put a container that has nothing left to give behind all others of its size."""
        for containers in self._by_bit_length:
            if containers.pop(id(container), None):
                containers[id(container)] = container
