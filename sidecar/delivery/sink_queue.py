"""The stage around every sink: one message at a time, retried until the sink accepts it.

A slow or dead sink delays only itself, not the ingest and not another sink.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from sidecar.delivery.schedule import Pending, Schedule
from sidecar.delivery.stage import MAX_HELD_BYTES, Stage
from sidecar.errors import Refused, SinkError
from sidecar.model import Outgoing
from sidecar.sinks import Sink

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.2
MAX_PAUSE_SECONDS = 10.0
"""Between two attempts at a sink that fails; the pause doubles from the first to the longest."""

ATTEMPTS_IN_A_ROW = 5
"""After so many failures a message rests for the longest pause, so that one which always fails delays no other."""


HELD_SECONDS = 0.002

LOGGED_AGAIN_SECONDS = 60.0
"""Between two log messages about a sink that keeps failing."""


class MissingError(Exception):
    """The state file no longer has a message that was stored in it."""


class Delivery(Stage):
    """A sink with its queue. Outcomes: sent, refused (for good), failed and broken (to be tried again), dropped.

    `room` bounds the messages that are held in memory. Those that the state file has can be left there (`load` gets
    them); without a state file, and while it cannot be written, what does not fit is dropped and counted.
    """

    def __init__(
        self,
        sink: Sink,
        room: int,
        timer: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(f"sink {sink.name}")
        self.sink = sink
        self.room = room
        self.on_done: Callable[[Delivery, Pending, str], None] | None = None
        """Called with each message that is out of here, and its outcome: `sent`, `refused` or `dropped`."""
        self.load: Callable[[str], Outgoing] | None = None
        """Reads a message from the state file by its key. Raises MissingError, OSError."""
        self.is_held: Callable[[], bool] = lambda: False
        """Whether no further message is to be sent for now."""
        self._timer = timer
        self._sleep = sleep
        self._schedule = Schedule()
        self._held = 0
        self._held_bytes = 0
        self._failures = 0
        self._failing_since = self._logged_at = 0.0
        self._in_flight: Pending | None = None

    @property
    def pending(self) -> int:
        """Messages that the sink has not accepted yet, in memory or in the state file."""
        return len(self._schedule)

    @property
    def oldest(self) -> float:
        """Seconds that the oldest message has been waiting; 0 without one."""
        first = next(iter(self._schedule), None)
        return self._timer() - first.since if first is not None else 0.0

    def put(self, out: Outgoing, *, is_stored: bool = False) -> Pending | None:
        """Queue a message; None if it is pending already."""
        if out.key in self._schedule:
            return None
        return self._add(Pending(out.key, out, out.place, since=self._timer(), is_stored=is_stored))

    def put_stored(self, key: str, place: str, size: int) -> None:
        """Queue a message of `size` bytes that the state file has; it is read when its turn comes."""
        if key not in self._schedule:
            item = Pending(key, None, place, since=self._timer(), is_stored=True)
            item.size = size
            self._add(item)

    def __contains__(self, key: str) -> bool:
        return key in self._schedule

    def drop_stored(self) -> bool:
        """Give up one message of the state file, of the place with most; False if there is none to give up."""
        return self._drop(lambda item: item.is_stored)

    def note_stored(self, item: Pending) -> None:
        """The state file has the message by now."""
        item.is_stored = True
        if self._is_over():
            self._unload(item)

    async def work(self) -> None:
        """Make one attempt; after a failure wait, longer each time."""
        if self.is_held():
            await self._sleep(HELD_SECONDS)
            return
        item = self._schedule.next(self._timer())
        if item is None:
            await self._sleep(max(0.0, self._schedule.next_due() - self._timer()))
            return
        self._in_flight = item
        try:
            await self.sink.send(item.out or self._loaded(item))
        except Refused as error:
            log.warning("sink refused a notification", extra={"sink": self.sink.name, "error": str(error)})
            self._finish(item, "refused")
        except MissingError:
            log.error("a notification is gone from the state file", extra={"sink": self.sink.name, "key": item.key})  # noqa: TRY400
            self._finish(item, "dropped")
        except Exception as error:
            self._in_flight = None
            self._note_failure(item, error)
            await self._rest(item, getattr(error, "retry_after", 0.0))
        else:
            self._finish(item, "sent")

    async def stop(self, grace: float) -> None:
        """Deliver what is decided for up to `grace` seconds, then end."""
        await super().stop(grace)
        self.sink.close()

    def _add(self, item: Pending) -> Pending:
        self._schedule.add(item)
        if item.out is not None:
            self._held += 1
            self._held_bytes += item.size
        self._make_room()
        self._wake()
        return item

    def _make_room(self) -> None:
        """Leave to the state file what it has; what it has not may fill the memory, and is dropped beyond that."""
        if not self._is_over():
            return
        for item in [each for each in self._schedule if each.is_stored and each.out is not None][::-1]:
            self._unload(item)
            if not self._is_over():
                return
        while self._held > 1 and (self._held_bytes > MAX_HELD_BYTES or (self.load is None and self._is_over())):
            if not self._drop(lambda item: item.out is not None):
                return

    def _drop(self, may_go: Callable[[Pending], bool]) -> bool:
        victim = self._schedule.to_drop(lambda item: item is not self._in_flight and may_go(item))
        if victim is None:
            return False
        self._forget(victim, "dropped")
        self._count_dropped()
        return True

    def _is_over(self) -> bool:
        return self._held > self.room or self._held_bytes > MAX_HELD_BYTES

    def _unload(self, item: Pending) -> None:
        if item.out is not None:
            item.out = None
            self._held -= 1
            self._held_bytes -= item.size

    def _loaded(self, item: Pending) -> Outgoing:
        if self.load is None:
            raise MissingError
        return self.load(item.key)

    def _log_failure(self, error: Exception) -> None:
        """Log the first failure, and then one a minute."""
        now = self._timer()
        if self._failures == 1:
            self._failing_since = now
        elif now - self._logged_at < LOGGED_AGAIN_SECONDS:
            return
        self._logged_at = now
        text = {"sink": self.sink.name, "error": str(error), "attempts": self._failures}
        log.warning("sink did not accept a notification, trying again", extra=text)

    def _finish(self, item: Pending, outcome: str) -> None:
        self.counts[outcome] += 1
        if self._failures:
            after = round(self._timer() - self._failing_since, 1)
            log.warning("sink answers again", extra={"sink": self.sink.name, "seconds": after})
        self._failures = 0
        self._in_flight = None
        self._forget(item, outcome)

    def _forget(self, item: Pending, outcome: str) -> None:
        self._unload(item)
        self._schedule.remove(item)
        if self.on_done is not None:
            self.on_done(self, item, outcome)

    def _note_failure(self, item: Pending, error: Exception) -> None:
        item.attempts += 1
        self._failures += 1
        if isinstance(error, (OSError, SinkError)):
            self.counts["failed"] += 1
            self._log_failure(error)
        else:  # a bug must cost an attempt, not the notification
            self.counts["broken"] += 1
            log.error("sink failed with a bug, trying again", extra={"sink": self.sink.name}, exc_info=error)

    async def _rest(self, item: Pending, retry_after: float) -> None:
        pause = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(self._failures - 1, 10))
        pause *= 0.5 + random.random() / 2  # noqa: S311 - jitter, not a secret
        pause = max(pause, retry_after)
        rests = item.attempts >= ATTEMPTS_IN_A_ROW
        item.rest_until = self._timer() + (max(MAX_PAUSE_SECONDS, pause) if rests else pause)
        await self._sleep(pause)
