"""A bounded queue in front of a slow receiver: items in order, one at a time.

Putting never waits, so a receiver cannot delay Falco; when the queue is full, by number or by bytes, the oldest item
is dropped and counted.
"""

import time
from abc import abstractmethod
from collections import deque
from typing import Generic, TypeVar

from sidecar.delivery.stage import MAX_HELD_BYTES, Stage, log

T = TypeVar("T")


class WorkQueue(Stage, Generic[T]):
    """Items in order, one at a time to `carry`."""

    def __init__(self, name: str, room: int) -> None:
        super().__init__(name)
        self._items: deque[T] = deque()
        self._since: deque[float] = deque()
        self.room = room
        self._weight = 0

    @property
    def pending(self) -> int:
        """Items that are not carried yet."""
        return len(self._items)

    @property
    def oldest(self) -> float:
        """Seconds that the oldest item has been waiting here; 0 without one."""
        return time.monotonic() - self._since[0] if self._since else 0.0

    @abstractmethod
    async def carry(self, item: T) -> str:
        """Send an item, however long it takes; returns the outcome that is counted."""

    def weigh(self, item: T) -> int:  # noqa: ARG002 - for those who hold bytes
        """Bytes that an item takes; 0 where all are small."""
        return 0

    def put(self, item: T) -> None:
        """Queue one item."""
        self._weight += self.weigh(item)
        while self._items and (len(self._items) >= self.room or self._weight > MAX_HELD_BYTES):
            self._pop()
            self._count_dropped()
        self._items.append(item)
        self._since.append(time.monotonic())
        self._wake()

    async def work(self) -> None:
        """Carry the oldest item."""
        item = self._items[0]
        try:
            outcome = await self.carry(item)
        except Exception:  # a bug must cost one item, not the queue
            log.exception("an item could not be carried", extra={"queue": self.name})
            outcome = "broken"
        self.counts[outcome] += 1
        if self._items and self._items[0] is item:
            self._pop()

    def _pop(self) -> None:
        self._weight -= self.weigh(self._items.popleft())
        self._since.popleft()
