"""What stays of `correlation.memory.servers` in the state file: who listens, and when hosts were watched.

The alerts that showed it expire after a day, a server runs for weeks.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

MAX_SERVERS = 16_384
"""Twice as many as the memory keeps: it says what it evicts, unless the disk fails for long."""

MAX_HOSTS = 4_096
MAX_RUNS = 16

ALIVE_EVERY_SECONDS = 30.0
"""How often a run notes that it is alive; so much earlier an absence may seem to have started."""

TABLES = """
CREATE TABLE servers (
    host TEXT NOT NULL, container TEXT NOT NULL, pid INTEGER NOT NULL, start INTEGER NOT NULL, since INTEGER NOT NULL,
    PRIMARY KEY (host, container, pid)
);
CREATE TABLE watched (host TEXT PRIMARY KEY, since INTEGER NOT NULL, doubted INTEGER NOT NULL);
CREATE TABLE runs (run TEXT PRIMARY KEY, began INTEGER NOT NULL, alive INTEGER NOT NULL);
"""

PROGRAMS = "ALTER TABLE servers ADD COLUMN program TEXT NOT NULL DEFAULT ''"

Key = tuple[str, str, int]
"""Host, container, pid; the pid 0 for a container in doubt."""


class ServerRows(Struct):
    """Processes that listen (start, since when, ns; program) and hosts that are watched (since, doubted until, ns).

    `evicted` are processes whose rows are removed.
    """

    listening: dict[Key, tuple[int, int, str]] = {}
    watched: dict[str, tuple[int, int]] = {}
    evicted: dict[Key, None] = {}

    def add(
        self,
        listening: Mapping[Key, tuple[int, int, str]],
        watched: Mapping[str, tuple[int, int]],
        evicted: Iterable[Key] = (),
    ) -> None:
        """Add newer rows; of too many the oldest go."""
        for key in evicted:
            self.listening.pop(key, None)
            self.evicted[key] = None
        for key in listening:
            self.evicted.pop(key, None)
        self.listening |= listening
        self.watched |= watched
        _shorten(self.listening, MAX_SERVERS)
        _shorten(self.watched, MAX_HOSTS)
        _shorten(self.evicted, MAX_SERVERS)


class ServerTable:
    """The rows in an open database, and the lives of the service. Methods raise sqlite3.Error when the disk fails."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._alive_at = 0.0

    def use(self, db: sqlite3.Connection) -> None:
        """Switch to another connection, to a file with the same content."""
        self._db = db

    def put(self, rows: ServerRows) -> None:
        """Add or replace rows; beyond the bounds the oldest go."""
        if rows.evicted:
            self._db.executemany("DELETE FROM servers WHERE host = ? AND container = ? AND pid = ?", rows.evicted)
        servers = [(*key, *value) for key, value in rows.listening.items()]
        if servers:
            self._db.executemany("INSERT OR REPLACE INTO servers VALUES (?, ?, ?, ?, ?, ?)", servers)
            self._shrink("servers", MAX_SERVERS)
        if rows.watched:
            hosts = [(host, *value) for host, value in rows.watched.items()]
            self._db.executemany("INSERT OR REPLACE INTO watched VALUES (?, ?, ?)", hosts)
            self._shrink("watched", MAX_HOSTS)

    def rows(self) -> ServerRows:
        """All that can be read."""
        servers = self._db.execute("SELECT host, container, pid, start, since, program FROM servers ORDER BY rowid")
        hosts = self._db.execute("SELECT host, since, doubted FROM watched ORDER BY rowid")
        return ServerRows(
            {(row[0], row[1], row[2]): row[3:] for row in servers.fetchall() if _are_numbers(row[2:5])},
            {row[0]: row[1:] for row in hosts.fetchall() if _are_numbers(row[1:])},
        )

    def begin_run(self, run: str, now: int) -> None:
        """Note that the service runs from `now` (ns) on; workers of one supervisor are one run."""
        self._db.execute("INSERT OR IGNORE INTO runs VALUES (?, ?, ?)", (run, now, now))
        self._shrink("runs", MAX_RUNS)

    def note_alive(self, run: str, now: float, *, at_once: bool = False) -> None:
        """Note that the run is alive; `now` (s) is written every ALIVE_EVERY_SECONDS, or at once."""
        if at_once or abs(now - self._alive_at) >= ALIVE_EVERY_SECONDS:
            self._db.execute("UPDATE runs SET alive = ? WHERE run = ?", (int(now * 1e9), run))
            self._alive_at = now

    def absences(self) -> list[tuple[int, int]]:
        """Begin and end (ns) of the times without a run: before the first that is known, and between two."""
        runs = self._db.execute("SELECT began, alive FROM runs ORDER BY rowid").fetchall()
        times = [row for row in runs if _are_numbers(row)]
        ends = [0, *(alive for _, alive in times)]
        return [(end, began) for end, (began, _) in zip(ends, times, strict=False)]

    def _shrink(self, table: str, most: int) -> None:
        self._db.execute(f"DELETE FROM {table} WHERE rowid <= (SELECT max(rowid) - ? FROM {table})", (most,))  # noqa: S608 - our own words


def _shorten(rows: dict[Any, Any], most: int) -> None:
    while len(rows) > most:
        del rows[next(iter(rows))]


def _are_numbers(values: tuple[object, ...]) -> bool:
    return all(isinstance(value, int) for value in values)  # a damaged row must not break the start
