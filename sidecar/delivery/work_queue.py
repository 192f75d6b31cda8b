"""A bounded queue with one worker, the stage in front of everything slow: what it cannot take yet waits here, in order.

Putting never waits, so nobody behind the queue can hold up Falco; when it is full, by number or by weight, the oldest
item is dropped, and counted.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from typing import Generic, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)


HEAVIEST = 16 * 1024 * 1024
"""Bytes that a queue holds at the most, but for a single item."""


class WorkQueue(ABC, Generic[T]):
    """Items in order, one at a time to `carry`; `counts` is by outcome, a fixed set of words."""

    def __init__(self, name: str, room: int) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self._items: deque[T] = deque()
        self._since: deque[float] = deque()
        self.room = room
        self._weight = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._task: asyncio.Task[None] | None = None

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
        """Do with an item what is to be done, however long it takes; returns the outcome that is counted."""

    def weigh(self, item: T) -> int:  # noqa: ARG002 - for those who hold bytes
        """Bytes that an item takes; 0 where all are small."""
        return 0

    def start(self) -> None:
        """Begin to carry."""
        self._task = asyncio.create_task(self._run(), name=self.name)

    def put(self, item: T) -> None:
        """Queue one item."""
        self._weight += self.weigh(item)
        while self._items and (len(self._items) >= self.room or self._weight > HEAVIEST):
            self._pop()
            self.counts["dropped"] += 1
            if self.counts["dropped"] == 1:
                log.error("queue full, dropping the oldest", extra={"queue": self.name, "room": self.room})
        self._items.append(item)
        self._since.append(time.monotonic())
        self._drained.clear()
        self._filled.set()

    async def drained(self) -> None:
        """Wait until nothing is pending."""
        await self._drained.wait()

    async def stop(self, grace: float) -> None:
        """Carry what is queued for up to `grace` seconds, then end."""
        if self._task is None:
            return
        try:
            await asyncio.wait_for(self.drained(), grace)
        except TimeoutError:
            log.warning("stopping with items undelivered", extra={"queue": self.name, "count": self.pending})
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            while self._items:
                item = self._items[0]
                try:
                    outcome = await self.carry(item)
                except Exception:  # a bug must cost one item, not the queue
                    log.exception("an item could not be carried", extra={"queue": self.name})
                    outcome = "broken"
                self.counts[outcome] += 1
                if self._items and self._items[0] is item:
                    self._pop()
            self._drained.set()
            self._filled.clear()
            await self._filled.wait()

    def _pop(self) -> None:
        self._weight -= self.weigh(self._items.popleft())
        self._since.popleft()
