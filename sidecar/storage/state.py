"""The state file, which survives a crash: relevant alerts, notifications, incidents, and the journal's position.

Memory is not stored but rebuilt by replay: contexts, open incidents and de-duplication ids follow from the relevant
alerts of the last day, in their order. A relevant alert is committed before Falco
gets its answer (to the write-ahead log: it survives the process); a notification is committed with full durability
before it is sent (it survives the machine), under a key that is unique, so playing again decides nothing twice.
"""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct, field

from sidecar.model import Notification, Outgoing
from sidecar.storage import servers
from sidecar.storage.archive import EVIDENCE_TABLES, TABLES, Archive
from sidecar.storage.opening import (
    PATIENCE_SECONDS,
    DiskError,
    StateError,
    holds,
    lock,
    open_database,
    open_reader,
    refuse_unusable,
    rewritten,
    transaction,
)
from sidecar.storage.servers import ServerRows, ServerTable
from sidecar.storage.shares import row_size, row_size_sql, shrink

__all__ = ["DiskError", "Position", "State", "StateError"]

MAX_ALERT_BYTES = 56 * 1024 * 1024
"""Of all kept alerts; beyond it the containers with most of them lose their oldest, web-shell evidence last."""

MAX_ALERTS = 100_000
"""Kept alerts in total, which take five seconds to replay."""

MAX_OUTBOX_BYTES = 32 * 1024 * 1024
"""Of notifications that no sink has accepted yet."""

MAX_DELIVERED = 50_000
"""Delivered notifications whose keys are kept, so that a replay does not send them twice."""

ROW_BYTES = 150
"""Overhead of a row."""

ALERT_SIZE = row_size_sql(f"(length(body) + {ROW_BYTES})")
"""What an alert takes in the file."""

_ALERTS = """
CREATE TABLE alerts (id BLOB PRIMARY KEY, at INTEGER NOT NULL, place TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX alerts_by_place ON alerts (place);
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, sink TEXT NOT NULL, body BLOB NOT NULL,
    at INTEGER NOT NULL, done INTEGER
);
CREATE INDEX outbox_to_do ON outbox (sink, number) WHERE done IS NULL;
CREATE TABLE journal (path TEXT PRIMARY KEY, inode INTEGER NOT NULL, offset INTEGER NOT NULL);
"""

_PLACES = """
ALTER TABLE outbox ADD COLUMN place TEXT NOT NULL DEFAULT '';
ALTER TABLE alerts ADD COLUMN anchors INTEGER NOT NULL DEFAULT 0;
CREATE TABLE damaged (what TEXT NOT NULL, at INTEGER NOT NULL, body BLOB)
"""

_MARKS = "ALTER TABLE journal ADD COLUMN mark INTEGER NOT NULL DEFAULT 0"

SCHEMAS = (_ALERTS, TABLES, _PLACES, _MARKS, servers.TABLES, servers.PROGRAMS, EVIDENCE_TABLES)
"""The statements that bring a file from each schema to the next."""

OUR_TABLES = frozenset(("alerts", "outbox", "journal", "incidents"))


def refuse_unusable_state(path: Path, patience: float = PATIENCE_SECONDS) -> None:
    """Raises StateError if a start with this state file cannot succeed; see `opening.refuse_unusable`."""
    refuse_unusable(path, SCHEMAS, OUR_TABLES, patience)


class Waiting(NamedTuple):
    """A notification that a sink has not accepted yet: its delivery key, its container and its bytes."""

    key: str
    place: str
    size: int


class Position(NamedTuple):
    """How far a journal file was read: its inode, the offset in bytes, and what stands for the bytes before it.

    `mark` is 0 where that is not known.
    """

    inode: int
    offset: int
    mark: int = 0


class KeptAlert(NamedTuple):
    """A relevant alert: its event id, its container, its JSON, and whether it is evidence that contexts hang on."""

    name: bytes
    place: str
    body: bytes
    anchors: bool


class Batch(Struct):
    """What one transaction writes. `now` is in nanoseconds.

    `delivered` are messages that a sink accepted, `refreshed` incidents that changed without a notification,
    `lost_events` hosts whose Falco dropped events, and `archived` rows of an archive in memory. `look_after` asks for
    a look at the file too: is it still there, and how much of its budgets is used?
    """

    alerts: list[KeptAlert] = []
    decided: list[Outgoing] = []
    incidents: list[Notification] = []
    delivered: list[Outgoing] = []
    refreshed: list[Notification] = []
    lost_events: list[str] = []
    now: int = 0
    positions: dict[str, Position] = {}
    archived: list[tuple[object, ...]] = []
    servers: ServerRows = field(default_factory=ServerRows)
    look_after: bool = False


class Written(NamedTuple):
    """What came of a batch: keys that are new, whether a deleted file was written again, and shares of budgets."""

    new: set[str]
    restored: bool
    usage: dict[str, float] | None


class State:
    """The open state file. Methods raise sqlite3.Error when the disk fails; `delivery.outbox` deals with that.

    `run` is the same for all workers of one supervisor, which lose nothing between two of them.
    `write` may be called in another thread; `archive` and `body` read on a connection of their own.
    """

    def __init__(self, path: Path, *, keep: float, wall: Callable[[], float] = time.time, run: str = "") -> None:
        self._path = path
        self._run = run or os.urandom(8).hex()
        self._keep = keep
        self._wall = wall
        self.set_aside = ""
        """What was done with a damaged file, "" if it was not damaged."""
        self._lock = lock(self._lock_path)
        try:
            self._db, self.set_aside = open_database(path, SCHEMAS, OUR_TABLES)
        except StateError:
            os.close(self._lock)
            raise
        self._inode = path.stat().st_ino
        self._reader = open_reader(path)
        self._retired: list[sqlite3.Connection] = []
        self._in_use = threading.Lock()
        self.archive = Archive(self._reader)
        self._archive = Archive(self._db)
        self.servers = ServerTable(self._db)
        self.alert_bytes = 0
        self.alerts = 0
        self._begin()

    def _begin(self) -> None:
        with contextlib.suppress(sqlite3.Error), transaction(self._db):  # of a full disk; `write` reports it
            self.servers.begin_run(self._run, int(self._wall() * 1e9))
            self._archive.index_older()
        self._count_alerts()

    def close(self) -> None:
        """Close the file and release its lock. A second call does nothing: the descriptor may be another's by then."""
        with self._in_use:
            if self._lock < 0:
                return
            with contextlib.suppress(sqlite3.Error):
                self.servers.note_alive(self._run, self._wall(), at_once=True)
            for db in (*self._retired, self._reader, self._db):
                with contextlib.suppress(sqlite3.Error):
                    db.close()
            os.close(self._lock)
            self._lock = -1

    @property
    def path(self) -> Path:
        """Of the file."""
        return self._path

    @property
    def _lock_path(self) -> Path:
        return self._path.with_suffix(self._path.suffix + ".lock")

    def write(self, batch: Batch) -> Written:
        """Commit a batch; durably, if something was decided. Raises OSError too."""
        with self._in_use:
            return self._write(batch)

    def _write(self, batch: Batch) -> Written:
        restored = self.restore_if_deleted() if batch.look_after else False
        try:
            with self._durably(if_needed=bool(batch.decided or batch.incidents)), transaction(self._db):
                self._archive.add_rows(batch.archived)
                for alert in batch.alerts:
                    self.remember(alert.name, alert.place, alert.body, anchors=alert.anchors)
                new = self.decide(batch.decided, batch.incidents, batch.delivered)
                if batch.refreshed or batch.lost_events:
                    self.refresh(batch.refreshed, batch.lost_events, batch.now)
                self.servers.put(batch.servers)
                if batch.look_after:
                    self.servers.note_alive(self._run, self._wall())
                for path, position in batch.positions.items():
                    self._db.execute("INSERT OR REPLACE INTO journal VALUES (?, ?, ?, ?)", (path, *position))
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._count_alerts()
            raise
        return Written(new, restored, self.usage() if batch.look_after else None)

    def restore_if_deleted(self) -> bool:
        """Write the file again if it was deleted or replaced: its content is still open. Returns whether it was.

        Raises sqlite3.Error or OSError if it cannot be written.
        """
        while self._retired:
            self._retired.pop().close()
        if self._lock_path.parent.is_dir() and not holds(self._lock, self._lock_path):
            descriptor = lock(self._lock_path, patience=0.0)
            os.close(self._lock)
            self._lock = descriptor
        try:
            if self._path.stat().st_ino == self._inode:
                return False
        except FileNotFoundError:
            pass
        db = rewritten(self._db, self._path, SCHEMAS, OUR_TABLES)
        self._db.close()
        self._retired.append(self._reader)  # the event loop may be reading
        self._db, self._inode = db, self._path.stat().st_ino
        self._archive.use(self._db)
        self.servers.use(self._db)
        self._reader = open_reader(self._path)
        self.archive.use(self._reader)
        return True

    def remember(self, name: bytes, place: str, body: bytes, *, anchors: bool = False) -> bool:
        """Store a relevant alert: its event id, its container, and whether contexts are anchored at such evidence."""
        row = (name, int(self._wall()), place, body, anchors)
        if self._db.execute("INSERT OR IGNORE INTO alerts VALUES (?, ?, ?, ?, ?)", row).rowcount:
            self.alerts += 1
            self.alert_bytes += row_size(ROW_BYTES + len(body))
            if self.alert_bytes > MAX_ALERT_BYTES or self.alerts > MAX_ALERTS or self.alerts % 1000 == 0:
                self.prune()
        return True

    def recall(self) -> Iterator[tuple[bytes, bytes]]:
        """Id and body of every kept alert, in order of arrival."""
        last = -1
        page = "SELECT rowid, id, body FROM alerts WHERE rowid > ? ORDER BY rowid LIMIT 500"
        while rows := self._db.execute(page, (last,)).fetchall():
            last = rows[-1][0]
            yield from (row[1:] for row in rows)

    def set_alert_aside(self, name: bytes) -> None:
        """Move an alert that cannot be read or replayed to the table of damaged ones."""
        with transaction(self._db):
            copied = "INSERT INTO damaged SELECT 'alert', ?, body FROM alerts WHERE id = ?"
            self._db.execute(copied, (int(self._wall()), name))
            self._db.execute("DELETE FROM alerts WHERE id = ?", (name,))
            self._db.execute("DELETE FROM damaged WHERE rowid <= (SELECT max(rowid) - 100 FROM damaged)")

    def decide(
        self, decided: Iterable[Outgoing], incidents: Iterable[Notification] = (), delivered: Iterable[Outgoing] = ()
    ) -> set[str]:
        """Commit notifications and their incidents durably; returns the keys that are new.

        `delivered` are those that a sink accepted while the file could not be written.
        """
        now = int(self._wall())
        new = set()
        insert = "INSERT OR IGNORE INTO outbox (key, sink, body, at, place) VALUES (?, ?, ?, ?, ?)"
        with self._durably(if_needed=True), transaction(self._db):
            for note in incidents:
                self._archive.put(note, step=True)
            for out in decided:
                if self._db.execute(insert, (out.key, out.sink, out.body, now, out.place)).rowcount:
                    new.add(out.key)
            for out in delivered:
                self._db.execute(insert, (out.key, out.sink, b"", now, out.place))
                self._db.execute("UPDATE outbox SET done = ?, body = x'' WHERE key = ?", (now, out.key))
        return new

    def refresh(self, incidents: Iterable[Notification], lost: Iterable[str], now: int) -> bool:
        """Store changes of incidents that caused no notification, and which hosts lost events."""
        with transaction(self._db):
            for note in incidents:
                self._archive.put(note, step=False)
            for host in lost:
                self._archive.lost_events(host, now)
        return True

    def pending(self, sink: str) -> list[Waiting]:
        """The notifications that a sink has not accepted yet, oldest first."""
        rows = self._db.execute(
            "SELECT key, place, length(body) FROM outbox WHERE sink = ? AND done IS NULL ORDER BY number", (sink,)
        )
        return [Waiting(*row) for row in rows.fetchall() if str(row[0]).count(":") >= 2]

    def body(self, key: str) -> bytes | None:
        """The JSON of a notification; None if it is gone."""
        row = self._reader.execute("SELECT body FROM outbox WHERE key = ? AND done IS NULL", (key,)).fetchone()
        return row[0] if row is not None and isinstance(row[0], bytes) else None

    def decided(self, sink: str) -> dict[str, int]:
        """The time in seconds at which each notification for a sink was decided, by its key."""
        return dict(self._db.execute("SELECT key, at FROM outbox WHERE sink = ?", (sink,)).fetchall())

    def delivered(self, key: str) -> bool:
        """Record that a sink accepted a notification, and remove its text."""
        self._db.execute("UPDATE outbox SET done = ?, body = x'' WHERE key = ?", (int(self._wall()), key))
        return True

    def position(self, path: str) -> Position | None:
        """The position up to which a journal was read."""
        row = self._db.execute("SELECT inode, offset, mark FROM journal WHERE path = ?", (path,)).fetchone()
        return Position(*row) if row and all(isinstance(value, int) for value in row) else None

    def prune(self) -> None:
        """Remove what is older than `keep`, and beyond the budget the alerts of the loudest containers."""
        horizon = int(self._wall() - self._keep)
        expired = self._db.execute("DELETE FROM alerts WHERE at < ? RETURNING length(body)", (horizon,)).fetchall()
        self.alerts -= len(expired)
        self.alert_bytes -= sum(row_size(ROW_BYTES + size) for (size,) in expired)
        self._db.execute("DELETE FROM outbox WHERE done IS NOT NULL AND at < ?", (horizon - int(self._keep),))
        self._db.execute(
            "DELETE FROM outbox WHERE done IS NOT NULL AND number <= (SELECT max(number) - ? FROM outbox)",
            (MAX_DELIVERED,),
        )
        for used, most, weight in (
            (self.alert_bytes, MAX_ALERT_BYTES, ALERT_SIZE),
            (self.alerts, MAX_ALERTS, "1"),
        ):
            if used > most:
                shrink(self._db, "alerts", "place", weight, "anchors DESC, rowid DESC", most * 9 // 10)
                self._count_alerts()
        self._db.execute("PRAGMA incremental_vacuum(2000)").fetchall()

    def usage(self) -> dict[str, float]:
        """The used share of its budget, for each kind of row."""
        size = row_size_sql(f"length(body) + length(place) + 2 * length(key) + {ROW_BYTES}")
        query = f"SELECT coalesce(sum({size}), 0) FROM outbox WHERE done IS NULL"  # noqa: S608 - our own words
        (pending,) = self._db.execute(query).fetchone()
        return {
            "alerts": max(self.alert_bytes / MAX_ALERT_BYTES, self.alerts / MAX_ALERTS),
            "notifications": pending / MAX_OUTBOX_BYTES,
            "incidents": self._archive.used,
        }

    def _count_alerts(self) -> None:
        query = f"SELECT count(*), coalesce(sum({ALERT_SIZE}), 0) FROM alerts"  # noqa: S608 - our own words
        self.alerts, self.alert_bytes = self._db.execute(query).fetchone()

    @contextlib.contextmanager
    def _durably(self, *, if_needed: bool) -> Iterator[None]:
        if not if_needed or self._db.in_transaction:  # it cannot be changed within a transaction
            yield
            return
        self._db.execute("PRAGMA synchronous = FULL")
        try:
            yield
        finally:
            self._db.execute("PRAGMA synchronous = NORMAL")
