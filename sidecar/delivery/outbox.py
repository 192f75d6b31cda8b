"""Decided means delivered: every message is committed before it is sent, and tried until its sink has taken it.

Without a state file the same holds for as long as the process lives. When the disk fails, the service goes on in memory
and says so; when it works again, it is used again.
"""

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from sidecar.delivery.sink_queue import Delivery
from sidecar.incidents.falco_event import to_json
from sidecar.model import Alert, Message, Notification
from sidecar.sinks import Outgoing, delivery_key
from sidecar.storage.archive import Archive, in_memory
from sidecar.storage.state import Decided, Position, State

T = TypeVar("T")

log = logging.getLogger(__name__)

TOLD_AGAIN = 600.0
"""Seconds: a disk that is nearly full fails and works by turns."""

BATCH = 500
"""Notifications that a sink's queue gets from the file at once."""


class Outbox:
    """Stands between the pipeline and the deliveries. `trouble` says why the disk is not used, "" when it is."""

    def __init__(self, state: State | None, deliveries: Sequence[Delivery]) -> None:
        self.trouble = ""
        self.on_trouble: Callable[[str], None] | None = None
        """Told when the disk begins to fail, at most once in TOLD_AGAIN."""
        self._told: float | None = None
        self._state = state
        self._in_memory = in_memory()
        self._deliveries = deliveries
        for delivery in deliveries:
            delivery.on_done = self._delivered
            delivery.refill = self._refill if state is not None else None

    def remember(self, name: bytes, alert: Alert) -> None:
        """Keep a relevant alert before its answer is sent."""
        place = f"{alert.host}/{alert.container}"
        self._safely(lambda state: state.remember(name, place, msgspec.json.encode(alert)))

    @contextlib.contextmanager
    def reading(self, path: str, position: Position) -> Iterator[None]:
        """Keep what is remembered within, and how far the journal was read, in one transaction."""
        try:
            with self._state.reading(path, lambda: position) if self._state is not None else contextlib.nullcontext():
                yield
        except sqlite3.Error as error:
            self._failed(error)

    def decide(self, messages: Sequence[Message], *, send: bool = True) -> None:
        """Commit messages and hand them to the deliveries; those that were decided before are left alone."""
        if not messages:
            return
        made = [
            (delivery, Outgoing(delivery_key(message, delivery.sink.name), to_json(message), message))
            for message in messages
            for delivery in self._deliveries
        ]
        incidents = [message for message in messages if isinstance(message, Notification)]
        decided = [Decided(out.key, each.sink.name, out.body) for each, out in made]
        new = self._safely(lambda state: state.decide(decided, incidents))
        if new is None:
            for note in incidents:
                self._in_memory.put(note, step=True)
        for delivery, out in made:
            if send and (new is None or out.key in new):
                delivery.put(out)

    def decided(self, sink: str) -> dict[str, int]:
        """When each notification for a sink was decided, in seconds, by its key."""
        return self._safely(lambda state: state.decided(sink)) or {}

    def refresh(self, incidents: Sequence[Notification], lost: Sequence[str], now: int) -> None:
        """Keep what became of incidents without a notification, and which hosts' Falco dropped events."""
        if not self._safely(lambda state: state.refresh(incidents, lost, now)):
            for note in incidents:
                self._in_memory.put(note, step=False)
            for host in lost:
                self._in_memory.lost_events(host, now)

    @property
    def archive(self) -> Archive:
        """The incidents as they are shown: of the state file; without one, and while it fails, those in memory."""
        return self._in_memory if self._state is None or self.trouble else self._state.archive

    def resume(self) -> None:
        """Hand over what was decided before the last stop and is not delivered yet."""
        for delivery in self._deliveries:
            delivery.left_out = self._refill(delivery)

    def _refill(self, delivery: Delivery) -> bool:
        rows = self._safely(lambda state: state.pending(delivery.sink.name, BATCH)) or []
        for row in rows:
            delivery.put(Outgoing(row.key, row.body, None))
        return len(rows) == BATCH

    def _delivered(self, key: str) -> None:
        self._safely(lambda state: state.delivered(key))

    def _safely(self, use: Callable[[State], T]) -> T | None:
        if self._state is None:
            return None
        try:
            result = use(self._state)
        except sqlite3.Error as error:
            self._failed(error)
            return None
        if self.trouble:
            log.warning("the state file can be used again")
            self.trouble = ""
            with contextlib.suppress(sqlite3.Error):  # those that it does not take stay in memory
                self._in_memory.move_to(self._state.archive)
        return result

    def _failed(self, error: sqlite3.Error) -> None:
        if not self.trouble:
            log.error("the state file cannot be used, going on in memory", extra={"error": str(error)})
            now = time.monotonic()
            if self.on_trouble is not None and (self._told is None or now - self._told > TOLD_AGAIN):
                self._told = now
                self.on_trouble(str(error))
        self.trouble = str(error)
