"""What survives a crash: relevant alerts, decided notifications, incidents, the journal's position: one SQLite file.

Memory is not stored, it is played again: contexts, open incidents and de-duplication ids follow from the relevant
alerts of the last day, in their order, so these are all there is to keep. A relevant alert is committed before Falco
gets its answer (to the write-ahead log: it survives the process); a notification is committed with full durability
before it is sent (it survives the machine), under a key that is unique, so playing again decides nothing twice.
"""

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from sidecar.model import Notification
from sidecar.storage.archive import TABLES, Archive

log = logging.getLogger(__name__)

SCHEMA = 2

MOST = 50_000
"""Relevant alerts kept in all; beyond it, containers with more than SHARE give their oldest."""

SHARE = 2_000

HARD = 100_000
"""Beyond this the oldest go, whosever they are: 100 MB at the most, and five seconds to play them again."""

_TABLES = """
CREATE TABLE alerts (id BLOB PRIMARY KEY, at INTEGER NOT NULL, place TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX alerts_by_place ON alerts (place);
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, sink TEXT NOT NULL, body BLOB NOT NULL,
    at INTEGER NOT NULL, done INTEGER
);
CREATE INDEX outbox_to_do ON outbox (sink, number) WHERE done IS NULL;
CREATE TABLE journal (path TEXT PRIMARY KEY, inode INTEGER NOT NULL, offset INTEGER NOT NULL);
"""


_STEPS = (_TABLES, TABLES)
"""What brings a file from one schema to the next."""


class Decided(NamedTuple):
    """One notification for one sink: its delivery key and the JSON that the sink is to get."""

    key: str
    sink: str
    body: bytes


class Position(NamedTuple):
    """How far a journal file was read."""

    inode: int
    offset: int


class StateError(Exception):
    """The state file must not be used: a setting is wrong, or somebody else uses it. The text says why."""


class DiskError(StateError):
    """The disk does not let the state file be used: the service can go on in memory."""


class State:
    """The open state file. Methods raise sqlite3.Error when the disk fails; `Keeper` deals with that."""

    def __init__(self, path: Path, *, keep: float, wall: Callable[[], float] = time.time) -> None:
        self._keep = keep
        self._wall = wall
        self.set_aside = ""
        """Where a broken file was put, "" if it was not broken."""
        self._lock = _locked(path.with_suffix(path.suffix + ".lock"))
        try:
            self._db, self.set_aside = _opened(path)
        except StateError:
            os.close(self._lock)
            raise
        self._since_pruned = 0
        self.archive = Archive(self._db)

    def close(self) -> None:
        """Close the file and let go of its lock."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        os.close(self._lock)

    def remember(self, name: bytes, place: str, body: bytes) -> None:
        """Keep a relevant alert; `name` is its event id, `place` its container."""
        self._db.execute("INSERT OR IGNORE INTO alerts VALUES (?, ?, ?, ?)", (name, int(self._wall()), place, body))
        self._since_pruned += 1
        if self._since_pruned >= 1000:
            self.prune()

    def recall(self) -> Iterator[tuple[bytes, bytes]]:
        """Id and body of every alert kept, in the order in which they came."""
        last, page = -1, "SELECT rowid, id, body FROM alerts WHERE rowid > ? ORDER BY rowid LIMIT 500"
        while rows := self._db.execute(page, (last,)).fetchall():
            last = rows[-1][0]
            yield from (row[1:] for row in rows)

    def decide(self, decided: Iterable[Decided], incidents: Iterable[Notification] = ()) -> set[str]:
        """Commit notifications, and the incidents whose steps they are, durably; returns the keys that are new."""
        now = int(self._wall())
        new = set()
        self._db.execute("PRAGMA synchronous = FULL")
        with _transaction(self._db):
            for note in incidents:
                self.archive.put(note, step=True)
            for key, sink, body in decided:
                row = (key, sink, body, now)
                done = self._db.execute("INSERT OR IGNORE INTO outbox (key, sink, body, at) VALUES (?, ?, ?, ?)", row)
                if done.rowcount:
                    new.add(key)
        self._db.execute("PRAGMA synchronous = NORMAL")
        return new

    def refresh(self, incidents: Iterable[Notification], lost: Iterable[str], now: int) -> bool:
        """Keep what became of incidents without a notification, and which hosts lost events."""
        with _transaction(self._db):
            for note in incidents:
                self.archive.put(note, step=False)
            for host in lost:
                self.archive.lost_events(host, now)
        return True

    def pending(self, sink: str, limit: int) -> list[Decided]:
        """What a sink has not taken yet, oldest first."""
        rows = self._db.execute(
            "SELECT key, sink, body FROM outbox WHERE sink = ? AND done IS NULL ORDER BY number LIMIT ?", (sink, limit)
        )
        return [Decided(*row) for row in rows.fetchall()]

    def decided(self, sink: str) -> dict[str, int]:
        """When each notification for a sink was decided, in seconds, by its key."""
        return dict(self._db.execute("SELECT key, at FROM outbox WHERE sink = ?", (sink,)).fetchall())

    def delivered(self, key: str) -> None:
        """Note that the sink took it."""
        self._db.execute("UPDATE outbox SET done = ? WHERE key = ?", (int(self._wall()), key))

    def position(self, path: str) -> Position | None:
        """How far a journal was read."""
        row = self._db.execute("SELECT inode, offset FROM journal WHERE path = ?", (path,)).fetchone()
        return Position(*row) if row else None

    @contextlib.contextmanager
    def reading(self, path: str, position: Callable[[], Position]) -> Iterator[None]:
        """Keep the alerts that are remembered within, and the position after them, in one transaction."""
        with _transaction(self._db):
            yield
            self._db.execute("INSERT OR REPLACE INTO journal VALUES (?, ?, ?)", (path, *position()))

    def prune(self) -> None:
        """Forget what is older than `keep`, and what one container has too much of when the file is full."""
        self._since_pruned = 0
        horizon = int(self._wall() - self._keep)
        self._db.execute("DELETE FROM alerts WHERE at < ?", (horizon,))
        self._db.execute("DELETE FROM outbox WHERE done IS NOT NULL AND at < ?", (horizon - int(self._keep),))
        (count,) = self._db.execute("SELECT count(*) FROM alerts").fetchone()
        if count > MOST:
            self._db.execute(
                "DELETE FROM alerts WHERE rowid IN (SELECT rowid FROM (SELECT rowid, row_number() OVER "
                "(PARTITION BY place ORDER BY rowid DESC) AS rank FROM alerts) WHERE rank > ?)",
                (SHARE,),
            )
        if count > HARD:
            self._db.execute("DELETE FROM alerts WHERE rowid <= (SELECT max(rowid) - ? FROM alerts)", (HARD,))
        self._db.execute("PRAGMA incremental_vacuum(200)")


def _locked(path: Path, patience: float = 30.0) -> int:
    """Take the lock beside the state file, waiting for the service that is about to end."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        kind = StateError if isinstance(error, FileNotFoundError) else DiskError
        raise kind(f"{path}: {error.strerror}") from None
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > until:
                os.close(lock)
                raise StateError(f"{path}: another service uses this state") from None
            time.sleep(0.1)
        else:
            return lock


def _opened(path: Path) -> tuple[sqlite3.Connection, str]:
    """Open the file and bring an older schema up to date; a broken one is set aside, the second value says where."""
    try:
        return _connected(path), ""
    except (sqlite3.OperationalError, OSError) as error:
        raise DiskError(f"{path}: {error}") from None
    except sqlite3.DatabaseError as error:
        aside = path.with_name(f"{path.name}.corrupt-{int(time.time())}")
        path.rename(aside)
        for leftover in ("-wal", "-shm"):
            path.with_name(path.name + leftover).unlink(missing_ok=True)
        log.error("the state file is broken, starting with a new one", extra={"error": str(error), "kept": str(aside)})  # noqa: TRY400
        return _connected(path), str(aside)


def _connected(path: Path) -> sqlite3.Connection:
    path.touch(0o600)
    db = sqlite3.connect(path, isolation_level=None, timeout=5)
    try:
        _prepare(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA:
        raise StateError(f"{path}: was written by a newer version (schema {version}, this one knows {SCHEMA})")
    if version == 0:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    if version < SCHEMA:
        with _transaction(db):
            for statement in filter(str.strip, "".join(_STEPS[version:]).split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA}")
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
