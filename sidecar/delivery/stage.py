"""What the stages in front of slow receivers share: one task that works while there is something to do."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import Counter

log = logging.getLogger(__name__)

MAX_HELD_BYTES = 16 * 1024 * 1024
"""Bytes that one stage keeps in memory, except for a single larger item."""


class Stage(ABC):
    """One worker task. `counts` is by outcome, a fixed set of words."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._task: asyncio.Task[None] | None = None

    @property
    @abstractmethod
    def pending(self) -> int:
        """Items that still have to be sent."""

    @abstractmethod
    async def work(self) -> None:
        """Make one attempt, and wait as long as the receiver needs after a failure. Called while items are pending."""

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._run(), name=self.name)

    async def drained(self) -> None:
        """Wait until nothing is pending."""
        await self._drained.wait()

    async def stop(self, grace: float) -> None:
        """Work on what is pending for up to `grace` seconds, then end."""
        if self._task is None:
            return
        try:
            await asyncio.wait_for(self.drained(), grace)
        except TimeoutError:
            log.warning("stopping with items undelivered", extra={"queue": self.name, "count": self.pending})
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _wake(self) -> None:
        """Something was added."""
        self._drained.clear()
        self._filled.set()

    def _count_dropped(self) -> None:
        self.counts["dropped"] += 1
        if self.counts["dropped"] == 1:
            log.error("queue full, dropping items", extra={"queue": self.name})

    async def _run(self) -> None:
        while True:
            while self.pending:
                await self.work()
            self._drained.set()
            self._filled.clear()
            await self._filled.wait()
