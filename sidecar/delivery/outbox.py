"""Decided means delivered: every message is committed before it is sent, and tried until its sink has accepted it.

Without a state file the same holds for as long as the process lives. While the disk fails, the service runs on in
memory and reports it: what the file could not take waits here and is written, in order, when the file can be used
again. What is pending is known in memory, so a file that cannot be written never makes a message go out again.
"""

import contextlib
import logging
import math
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from sidecar.delivery.quota import Quota
from sidecar.delivery.schedule import Pending
from sidecar.delivery.sink_queue import Delivery, MissingError
from sidecar.incidents.falco_event import Origin, to_json
from sidecar.model import Alert, Message, Notification, Outgoing, delivery_key
from sidecar.storage.archive import Archive, in_memory
from sidecar.storage.state import MAX_DELIVERED, MAX_OUTBOX_BYTES, Position, State

T = TypeVar("T")

log = logging.getLogger(__name__)

REPORTED_AGAIN_SECONDS = 600.0
"""A disk that is nearly full fails and works alternately."""

RETRY_SECONDS = 0.25
MAX_RETRY_SECONDS = 5.0
"""How long a file that failed is left alone: trying it may block the event loop for a moment each time."""

PRESSURE = 0.8
"""Share of a budget from which on it is reported."""

MAX_LATE_BYTES = 4 * 1024 * 1024
"""Of alerts that wait for a file that cannot be written."""


class _Late(NamedTuple):
    """An alert that the file could not take."""

    name: bytes
    place: str
    body: bytes
    anchors: bool


class Outbox:
    """Stands between the pipeline and the deliveries.

    `trouble` says why the disk is not used, "" while it is; `lost` counts what could not be kept (`alerts` that would
    not survive a crash). `anchors` says whether an alert is evidence that contexts hang on: that is kept longest.
    `origin` is named in every incident.
    """

    origin = Origin()

    def __init__(
        self,
        state: State | None,
        deliveries: Sequence[Delivery],
        anchors: Callable[[Alert], bool] = lambda _: False,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble = ""
        self.lost: Counter[str] = Counter()
        self.on_trouble: Callable[[str], None] | None = None
        """Called with a sentence when the disk begins to fail, at most once in REPORTED_AGAIN_SECONDS."""
        self._reported: dict[str, float] = {}
        self._state = state
        self._anchors = anchors
        self._timer = timer
        self._retry_at = 0.0
        self._pause = RETRY_SECONDS
        self._in_memory = in_memory()
        self._deliveries = deliveries
        self.quota = Quota(timer)
        self.usage: dict[str, float] = {}
        """The share of its budget in the state file that each kind of row uses."""
        self._unstored: dict[str, tuple[Pending, Delivery]] = {}
        self._unmarked: dict[str, Outgoing] = {}
        self._known: set[str] = set()
        self._late: deque[_Late] = deque()
        self._late_bytes = 0
        self._block: list[_Late] | None = None
        self._stored_bytes = 0
        for delivery in deliveries:
            delivery.on_done = self._done
            delivery.load = self._load if state is not None else None

    def remember(self, name: bytes, alert: Alert) -> None:
        """Keep a relevant alert before its answer is sent."""
        place = f"{alert.host}/{alert.container}"
        late = _Late(name, place, msgspec.json.encode(alert), self._anchors(alert))
        if self._block is not None:
            self._block.append(late)
        if self._use(lambda state: state.remember(name, place, late.body, anchors=late.anchors)) is None:
            self._keep_for_later(late)

    @contextlib.contextmanager
    def reading(self, path: str, position: Position) -> Iterator[None]:
        """Keep what is remembered within, and how far the journal was read, in one transaction."""
        if self._state is None or not self._is_due():
            yield
            return
        self._block = []
        try:
            with self._state.reading(path, lambda: position):
                yield
        except sqlite3.Error as error:
            waiting = {late.name for late in self._late}
            for late in self._block:
                if late.name not in waiting:
                    self._keep_for_later(late)
            self._failed(error)
        finally:
            self._block = None

    def decide(self, messages: Sequence[Message]) -> None:
        """Commit messages and hand them to the deliveries; those that were decided before are left alone."""
        messages = [message for message in messages if not self._is_known(message)]
        if not messages:
            return
        outgoing = [out for message in messages for out in self._for_sinks(message)]
        incidents = [message for message in messages if isinstance(message, Notification)]
        new = self._commit([out for _, out in outgoing], incidents)
        if new is None:
            for note in incidents:
                self._in_memory.put(note, step=True)
        for delivery, out in outgoing:
            if new is None or out.key in new:
                self._send(delivery, out, is_stored=new is not None)

    def _for_sinks(self, message: Message) -> list[tuple[Delivery, Outgoing]]:
        """The message for each sink; [] for one that is only counted in a digest."""
        is_allowed = self.quota.allows(message)
        body = to_json(message, self.origin)
        place = place_of(message)
        outgoing = [
            (delivery, Outgoing(delivery_key(message, delivery.sink.name), body, message, place))
            for delivery in self._deliveries
        ]
        if is_allowed:
            return outgoing
        for _, out in outgoing:
            self._mark_later(out)
        return []

    def _is_known(self, message: Message) -> bool:
        """Whether a message was decided before a restart, or is delivered and not noted in the file yet."""
        keys = [delivery_key(message, delivery.sink.name) for delivery in self._deliveries]
        return bool(keys) and all(key in self._known or key in self._unmarked for key in keys)

    def decided(self, sink: str) -> dict[str, int]:
        """When each notification for a sink was decided, in seconds, by its key."""
        return self._use(lambda state: state.decided(sink)) or {}

    def refresh(self, incidents: Sequence[Notification], lost: Sequence[str], now: int) -> None:
        """Keep what became of incidents without a notification, and which hosts' Falco dropped events."""
        if not self._use(lambda state: state.refresh(incidents, lost, now)):
            for note in incidents:
                self._in_memory.put(note, step=False)
            for host in lost:
                self._in_memory.lost_events(host, now)

    @property
    def archive(self) -> Archive:
        """The incidents as they are shown: of the state file; without one, and while it fails, those in memory."""
        return self._in_memory if self._state is None or self.trouble else self._state.archive

    def resume(self) -> None:
        """Queue what was decided before the last stop and is not delivered yet; call it before alerts are replayed."""
        for delivery in self._deliveries:
            sink = delivery.sink.name
            self._known |= set(self.decided(sink))
            for key, place, size in self._use(lambda state, name=sink: state.pending(name)) or []:  # type: ignore[misc]
                self._stored_bytes += size
                delivery.put_stored(key, place, size)

    def resumed(self) -> None:
        """All alerts are replayed: nothing that was decided before is decided again from here on."""
        self._known.clear()

    def check(self) -> None:
        """Send the digests that are due, and look after the file; call it every second or so.

        Is the file still there, can what waits for it be written, and are its budgets nearly used up?
        """
        self.decide(self.quota.digests())
        if self._state is None:
            return
        if self._use(lambda state: state.restore_if_deleted()):
            self._report("deleted", "the state file was deleted or replaced while in use; it was written again")
        if self._unstored or self._unmarked or self._late or self.trouble:
            self._commit([], [])
        self.usage = self._use(lambda state: state.usage()) or self.usage
        for kind, share in self.usage.items():
            if share >= PRESSURE:
                self._report(
                    kind, f"{kind} use {share:.0%} of their budget in the state file; the oldest are dropped at 100 %"
                )

    def _commit(self, rows: Sequence[Outgoing], incidents: Sequence[Notification]) -> set[str] | None:
        """Write these behind all that waits for the file; the keys that are new, None if that failed."""
        unstored = [item.out or Outgoing(item.key, b"", None, item.place) for item, _ in self._unstored.values()]
        unmarked = list(self._unmarked.values())
        new = self._use(lambda state: state.decide([*unstored, *rows], incidents, unmarked))
        if new is None:
            return None
        for item, delivery in self._unstored.values():
            self._stored_bytes += item.size
            delivery.note_stored(item)
        self._unstored.clear()
        self._unmarked.clear()
        self._write_late()
        return new

    def _write_late(self) -> None:
        while self._late:
            late = self._late[0]
            if self._use(lambda state, each=late: state.remember(*each[:3], anchors=each.anchors)) is None:  # type: ignore[misc]
                return
            self._late_bytes -= len(late.body)
            self._late.popleft()

    def _keep_for_later(self, late: _Late) -> None:
        if self._state is None:
            return
        self._late.append(late)
        self._late_bytes += len(late.body)
        while self._late_bytes > MAX_LATE_BYTES:
            self._late_bytes -= len(self._late.popleft().body)
            self.lost["alerts"] += 1
            self._report("alerts", "alerts cannot be kept: they would not survive a crash")

    def _send(self, delivery: Delivery, out: Outgoing, *, is_stored: bool) -> None:
        if is_stored:
            self._stored_bytes += len(out.body)
        item = delivery.put(out, is_stored=is_stored)
        if item is not None and not is_stored and self._state is not None and item.key in delivery:
            self._unstored[item.key] = item, delivery
        while self._stored_bytes > MAX_OUTBOX_BYTES and delivery.drop_stored():
            pass

    def _done(self, delivery: Delivery, item: Pending, outcome: str) -> None:
        if item.is_stored:
            self._stored_bytes -= item.size
        self._unstored.pop(item.key, None)
        if outcome == "dropped":
            self._report(
                "dropped", f"sink {delivery.sink.name} is behind and its queue is full: notifications are dropped"
            )
        if outcome == "dropped" and not item.is_stored:
            return  # it is decided again when the alerts are replayed after a restart
        if not item.is_stored or not self._use(lambda state: state.delivered(item.key)):
            self._mark_later(Outgoing(item.key, b"", None, item.place))

    def _mark_later(self, out: Outgoing) -> None:
        """Note in the file, when it can be written, that this message is done with."""
        if self._state is None:
            return
        self._unmarked[out.key] = out._replace(body=b"", message=None)
        if len(self._unmarked) > MAX_DELIVERED:
            del self._unmarked[next(iter(self._unmarked))]

    def _load(self, key: str) -> Outgoing:
        body = self._use(lambda state: (state.body(key),))
        if body is None:
            raise OSError(self.trouble)
        if body[0] is None:
            raise MissingError
        return Outgoing(key, body[0], None)

    def _is_due(self) -> bool:
        return not self.trouble or self._timer() >= self._retry_at

    def _use(self, use: Callable[[State], T]) -> T | None:
        if self._state is None or not self._is_due():
            return None
        try:
            result = use(self._state)
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            self._failed(error)
            return None
        if self.trouble:
            log.warning("the state file can be used again")
            self.trouble = ""
            self._pause = RETRY_SECONDS
            with contextlib.suppress(sqlite3.Error):  # those that it does not take stay in memory
                self._in_memory.move_to(self._state.archive)
        return result

    def _failed(self, error: Exception) -> None:
        if not self.trouble:
            log.error("the state file cannot be used, continuing in memory", extra={"error": str(error)})
            self._report("trouble", f"the state file cannot be used, continuing in memory: {error}")
        else:
            self._pause = min(2 * self._pause, MAX_RETRY_SECONDS)
        self.trouble = str(error) or type(error).__name__
        self._retry_at = self._timer() + self._pause

    def _report(self, subject: str, sentence: str) -> None:
        now = self._timer()
        if self.on_trouble is not None and now - self._reported.get(subject, -math.inf) > REPORTED_AGAIN_SECONDS:
            self._reported[subject] = now
            self.on_trouble(sentence)


def place_of(message: Message) -> str:
    """The container of a message (or its host), as it is shared out fairly."""
    return f"{message.where.host}/{message.where.container}"
