"""Decided means delivered: every message is committed before it is sent, and tried until its sink has accepted it.

The event loop never waits for the state file. A relevant alert goes into a ring (`storage.ring`), which survives the
process, before Falco gets its answer; what has come together since the last write is written in one transaction by
another thread, and messages are sent once they are in it.

Without a state file the same holds for as long as the process lives. While the disk fails, the service runs on in
memory and reports it: what the file could not take waits here and is written, in order, when the file can be used
again. What is pending is known in memory, so a file that cannot be written never makes a message go out again.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from sidecar.delivery.disk import AtOnce, Disk, Trouble
from sidecar.delivery.quota import Quota
from sidecar.delivery.schedule import Pending
from sidecar.delivery.sink_queue import Delivery, MissingError
from sidecar.delivery.unwritten import MAX_UNWRITTEN_BYTES, UnwrittenAlerts
from sidecar.delivery.write import Decision, Todo, Write
from sidecar.incidents.falco_event import Origin, to_json
from sidecar.model import Alert, Message, Notification, Outgoing, delivery_key
from sidecar.storage.archive import Archive, in_memory
from sidecar.storage.servers import Key
from sidecar.storage.shares import row_size
from sidecar.storage.state import MAX_DELIVERED, MAX_OUTBOX_BYTES, ROW_BYTES, KeptAlert, Position, State, Written

T = TypeVar("T")

PRESSURE = 0.8
"""Share of a budget from which on it is reported."""

HANGS_SECONDS = 15.0
"""How long a write may take before the service continues in memory: longer than a few slow syncs."""

MAX_UNMARKED = 4
"""Messages that a sink may accept before the file says so: as many are sent again after a crash."""


class Outbox:
    """Stands between the pipeline and the deliveries.

    `anchors` says whether an alert is evidence that contexts hang on: that is kept longest. `origin` is named in every
    incident.
    """

    origin = Origin()
    _writing: Write | None = None
    _writing_since = 0.0
    _is_hung = False
    _write_is_due = False

    def __init__(
        self,
        state: State | None,
        deliveries: Sequence[Delivery],
        anchors: Callable[[Alert], bool] = lambda _: False,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble = Trouble(timer)
        self._state = state
        self._disk: Disk = AtOnce()
        self.anchors = anchors
        self._timer = timer
        self._in_memory = in_memory()
        self._deliveries = deliveries
        self.quota = Quota(timer)
        self.usage: dict[str, float] = {}
        """The share of its budget in the state file that each kind of row uses."""
        self._unstored: dict[str, tuple[Pending, Delivery]] = {}
        self._unmarked: dict[str, Outgoing] = {}
        self._accepted: set[str] = set()
        """Those of the unmarked messages that a sink has accepted."""
        self._known: set[str] = set()
        self._unwritten = UnwrittenAlerts(state.path.with_name(state.path.name + ".alerts")) if state else None
        self._todo = Todo()
        self._stored_bytes = 0
        for delivery in deliveries:
            delivery.on_done = self._done
            delivery.load = self._load if state is not None else None
            delivery.is_held = self._is_far_ahead

    def close(self) -> None:
        """Write what waits, at once, and close the ring."""
        self._disk = AtOnce()
        self.write()
        if self._unwritten is not None:
            self._unwritten.close()
        self._state = None  # a write may still be due

    def use_disk(self, disk: Disk) -> None:
        """Where the file is written from now on; until then, at once."""
        self._disk = disk

    @property
    def is_settled(self) -> bool:
        """Whether all that the file can take is in it."""
        if self._is_hung:
            return True
        waits = self._unwritten or self._unmarked or self._todo.refreshed
        return not (self._writing or self._todo.decisions or (waits and not self.trouble and self._state is not None))

    @property
    def is_behind(self) -> bool:
        """Whether a source that can wait should."""
        return not self.trouble and self._unwritten is not None and self._unwritten.bytes > MAX_UNWRITTEN_BYTES // 4

    @property
    def lost_alerts(self) -> int:
        """Alerts that the file could not take, and that waited for it until the memory for them was full."""
        return self._unwritten.lost if self._unwritten is not None else 0

    def remember(self, name: bytes, alert: Alert) -> None:
        """Keep a relevant alert before its answer is sent."""
        if self._unwritten is not None:
            body = msgspec.json.encode(alert)
            self._unwritten.add(KeptAlert(name, f"{alert.host}/{alert.container}", body, self.anchors(alert)))
            self._write_soon()

    def unwritten(self) -> Iterator[tuple[bytes, bytes]]:
        """Id and body of the alerts that are not in the file yet, in the order in which they came."""
        return ((alert.name, alert.body) for alert in self._unwritten or ())

    def note_position(self, path: str, position: Position) -> None:
        """Keep how far a journal was read, once the alerts before it are in the file."""
        if self._state is not None:
            self._todo.positions[path] = position
            self._write_soon()

    def keep_servers(
        self,
        listening: Mapping[Key, tuple[int, int, str]],
        watched: Mapping[str, tuple[int, int]],
        evicted: Sequence[Key] = (),
    ) -> None:
        """Keep who began to listen or was evicted, and which hosts are watched; the next `check` writes it."""
        if self._state is not None:
            self._todo.servers.add(listening, watched, evicted)

    def decide(self, messages: Sequence[Message]) -> None:
        """Commit messages and hand them to the deliveries; those that were decided before are left alone."""
        messages = [message for message in messages if not self._is_known(message)]
        if not messages:
            return
        outgoing = [out for message in messages for out in self._for_sinks(message)]
        incidents = [message for message in messages if isinstance(message, Notification)]
        self._todo.decisions.append(Decision(outgoing, incidents))
        self.write()

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
        self._todo.refreshed |= {note.incident: note for note in incidents}
        self._todo.lost_events |= dict.fromkeys(lost)
        self._todo.now = now
        self.write()

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
                self._stored_bytes += stored_size(key, place, size)
                delivery.put_stored(key, place, size)

    def resumed(self) -> None:
        """All alerts are replayed: nothing that was decided before is decided again from here on."""
        self._known.clear()

    def check(self) -> None:
        """Send the digests that are due, and look after the file; call it every second or so.

        Is the file still there, can what waits for it be written, and are its budgets nearly used up?
        """
        self.decide(self.quota.digests())
        if self._unwritten is not None and self._unwritten.lost + self._unwritten.unprotected:
            self.trouble.report("alerts", "alerts cannot be kept: they would not survive a crash")
        self._todo.look_after = self._state is not None
        if self._writing and not self._is_hung and self._timer() - self._writing_since > HANGS_SECONDS:
            self._is_hung = True
            self.trouble.begin(TimeoutError("the disk does not answer"))
            self._do_without_the_file(self._writing.todo)
        self.write()

    def write(self) -> None:
        """Write all that waits for the file, unless a write is on its way: that is followed by another."""
        self._write_is_due = False
        if self._writing and not self._is_hung:
            return
        if self._state is None or self._is_hung or not self.trouble.is_over_or_due:
            self._do_without_the_file(self._todo)
            return
        write = self._collected()
        state = self._state
        batch = write.batch()
        self._writing, self._writing_since = write, self._timer()
        self._disk.run(lambda: state.write(batch), lambda outcome: self._written(write, outcome))

    def _write_soon(self) -> None:
        if not self._writing and not self._write_is_due:
            self._write_is_due = True
            self._disk.soon(self.write)

    def _collected(self) -> Write:
        """Take what waits for the file."""
        todo, self._todo = self._todo, Todo()
        return Write(
            alerts=self._unwritten.take() if self._unwritten is not None else [],
            todo=todo,
            unstored=dict(self._unstored),
            unmarked=dict(self._unmarked),
            archived=self._in_memory.rows() if self.trouble else [],
        )

    def _written(self, write: Write, outcome: Written | Exception) -> None:
        self._writing = None
        was_hung, self._is_hung = self._is_hung, False
        if isinstance(outcome, Written):
            self._note_written(write, outcome)
            if was_hung:  # what came meanwhile is in memory: that is written next, as after any other failure
                self.trouble.try_now()
            else:
                self._in_memory_is_written()
        else:
            self.trouble.begin(outcome)
            self._take_over(write)
        if self._todo.decisions:
            self.write()
        elif not self.is_settled or self._todo.positions:
            self._write_soon()

    def _in_memory_is_written(self) -> None:
        if self.trouble:
            self.trouble.end()
            self._in_memory.clear()
            self._protect_alerts()

    def _note_written(self, write: Write, written: Written) -> None:
        if self._unwritten is not None:
            self._unwritten.release(write.alerts)
        self._note_stored(write)
        for delivery, out in (each for decision in write.todo.decisions for each in decision.outgoing):
            if out.key in written.new:
                self._send(delivery, out, is_stored=True)
        self._note_state(written)

    def _note_stored(self, write: Write) -> None:
        for key, (item, delivery) in write.unstored.items():
            if self._unstored.pop(key, None) is not None:  # otherwise the sink has it by now
                self._stored_bytes += stored_size(item.key, item.place, item.size)
                delivery.note_stored(item)
        for key, out in write.unmarked.items():
            if self._unmarked.get(key) is out:
                del self._unmarked[key]
                self._accepted.discard(key)

    def _note_state(self, written: Written) -> None:
        if written.restored:
            self._protect_alerts()
            self.trouble.report("deleted", "the state file was deleted or replaced while in use; it was written again")
        self.usage = written.usage or self.usage
        for kind, share in self.usage.items():
            if share >= PRESSURE:
                self.trouble.report(
                    kind, f"{kind} use {share:.0%} of their budget in the state file; the oldest are dropped at 100 %"
                )

    def _protect_alerts(self) -> None:
        if self._unwritten is not None:
            self._unwritten.protect()

    def _take_over(self, write: Write) -> None:
        """The file could not take a batch: what must be kept waits for it again, what must be sent is sent."""
        if self._unwritten is not None:
            self._unwritten.put_back(write.alerts)
        self._todo.positions = write.todo.positions | self._todo.positions
        newer, self._todo.servers = self._todo.servers, write.todo.servers
        self._todo.servers.add(newer.listening, newer.watched, newer.evicted)
        self._do_without_the_file(write.todo)

    def _do_without_the_file(self, todo: Todo) -> None:
        """Send what was decided and show what is known, from memory; positions can wait."""
        for decision in todo.decisions:
            for note in decision.incidents:
                self._in_memory.put(note, step=True)
            for delivery, out in decision.outgoing:
                self._send(delivery, out, is_stored=False)
        for note in todo.refreshed.values():
            self._in_memory.put(note, step=False)
        for host in todo.lost_events:
            self._in_memory.lost_events(host, todo.now)
        todo.decisions, todo.refreshed, todo.lost_events = [], {}, {}

    def _send(self, delivery: Delivery, out: Outgoing, *, is_stored: bool) -> None:
        if is_stored:
            self._stored_bytes += stored_size(out.key, out.place, len(out.body))
        item = delivery.put(out, is_stored=is_stored)
        if item is not None and not is_stored and self._state is not None and item.key in delivery:
            self._unstored[item.key] = item, delivery
        while self._stored_bytes > MAX_OUTBOX_BYTES and delivery.drop_stored():
            pass

    def _done(self, delivery: Delivery, item: Pending, outcome: str) -> None:
        if item.is_stored:
            self._stored_bytes -= stored_size(item.key, item.place, item.size)
        self._unstored.pop(item.key, None)
        if outcome == "sent" and self._state is not None:
            self._accepted.add(item.key)
        if outcome == "dropped":
            self.trouble.report(
                "dropped", f"sink {delivery.sink.name} is behind and its queue is full: notifications are dropped"
            )
        if outcome == "dropped" and not item.is_stored:
            return  # it is decided again when the alerts are replayed after a restart
        self._mark_later(Outgoing(item.key, b"", None, item.place))
        self.write()  # at once: a crash before it is in the file sends the message again

    def _mark_later(self, out: Outgoing) -> None:
        """Note in the file, when it can be written, that this message is done with."""
        if self._state is None:
            return
        self._unmarked[out.key] = out._replace(body=b"", message=None)
        if len(self._unmarked) > MAX_DELIVERED:
            oldest = next(iter(self._unmarked))
            del self._unmarked[oldest]
            self._accepted.discard(oldest)

    def _is_far_ahead(self) -> bool:
        """Whether sinks have to wait until the file says what they accepted."""
        return len(self._accepted) >= MAX_UNMARKED and self._writing is not None and not self.trouble

    def _load(self, key: str) -> Outgoing:
        if self._state is None:
            raise MissingError
        try:
            body = self._state.body(key)
        except sqlite3.Error as error:
            raise OSError(str(error)) from None
        if body is None:
            raise MissingError
        return Outgoing(key, body, None)

    def _use(self, use: Callable[[State], T]) -> T | None:
        if self._state is None or self._is_hung or not self.trouble.is_over_or_due:
            return None
        try:
            return use(self._state)
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            self.trouble.begin(error)
            return None


def place_of(message: Message) -> str:
    """The container of a message (or its host), as it is shared out fairly."""
    return f"{message.where.host}/{message.where.container}"


def stored_size(key: str, place: str, length: int) -> int:
    """What a message of `length` bytes takes in the state file."""
    return row_size(length + len(place) + 2 * len(key) + ROW_BYTES)
