"""The archive of incidents: one row each, with the latest notification in full and the steps of its escalation.

Beside it are what it is searched by (`search_terms`) and the alerts behind it (`kept_alerts`).

It is in the state file, and is written in the transaction that decides a notification, so a page never shows less than
was sent; without a state file it is in memory. Both are bounded by age, number and size. An incident is open until its
`closes` has passed, which is computed when it is read: no timer closes anything.
"""

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
from msgspec import Struct

from sidecar.model import RANK, Notification, Severity
from sidecar.storage import kept_alerts, search_terms
from sidecar.storage.shares import row_size, shrink

RETENTION_SECONDS = 30 * 86_400
"""How long an incident is kept after its last evidence."""

MAX_INCIDENTS = 20_000
"""In a state file. Beyond this, or MAX_BYTES, the places with most incidents lose their oldest."""

MAX_BYTES = 44 * 1024 * 1024

MAX_INCIDENTS_IN_MEMORY = 1_000

MAX_BYTES_IN_MEMORY = 4_000_000

PRUNE_EVERY = 100
"""Writes between two checks of the bounds."""

TABLES = """
CREATE TABLE incidents (
    id TEXT PRIMARY KEY, rank INTEGER NOT NULL, case_name TEXT NOT NULL, host TEXT NOT NULL, namespace TEXT NOT NULL,
    pod TEXT NOT NULL, container TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, closes INTEGER NOT NULL,
    count INTEGER NOT NULL, incomplete INTEGER NOT NULL, steps TEXT NOT NULL, size INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE INDEX incidents_by_last ON incidents (last, id);
CREATE INDEX incidents_by_rank ON incidents (rank, last, id);
CREATE INDEX incidents_by_closes ON incidents (closes);
"""

EVIDENCE_TABLES = f"{search_terms.TABLE};{kept_alerts.TABLE}"

TABLE_NAMES = {"incidents": 15, "search_terms": 7, "kept_alerts": 8}
"""The tables with their number of columns."""

_LIST = "id, rank, case_name, host, namespace, pod, container, first, last, closes, count, incomplete, steps"

_PUT = "INSERT OR REPLACE INTO incidents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

_PLACE = "host, namespace, pod, container"

SORT_COLUMNS = {"last": "last", "first": "first", "severity": "rank", "count": "count"}


class Step(Struct, frozen=True):
    """One notification of an incident: its time (ns), severity and case, and the severity before."""

    time: int
    severity: Severity
    case: str
    came_from: str


class IncidentRow(Struct, frozen=True, array_like=True):
    """An incident in a list. Times are nanoseconds."""

    id: str
    severity: Severity
    case: str
    host: str
    namespace: str
    pod: str
    container: str
    first: int
    last: int
    closes: int
    count: int
    incomplete: bool
    steps: tuple[Step, ...]


class IncidentFilter(NamedTuple):
    """Which incidents a list contains; empty means all.

    `text` is part of anything that is searched; `terms` pair a kind of `search_terms.COLUMNS` with a part of it, or
    `namespace` with a name. `since` and `until` are times of the last evidence (ns).
    """

    severities: frozenset[str] = frozenset()
    state: str = ""
    text: str = ""
    since: int = 0
    sort: str = "last"
    ascending: bool = False
    limit: int = 50
    offset: int = 0
    until: int = 0
    terms: tuple[tuple[str, str], ...] = ()


class Found(NamedTuple):
    """What a filter finds: a page of rows, the number of all, and rank and time of the last evidence of each.

    The last includes incidents of the severities that the filter leaves out.
    """

    rows: list[IncidentRow]
    total: int
    times: list[tuple[int, int]]


class Archive:
    """The table of incidents in an open database. Methods raise sqlite3.Error when the disk fails."""

    def __init__(
        self,
        db: sqlite3.Connection,
        capacity: int = MAX_INCIDENTS,
        max_bytes: int = MAX_BYTES,
        max_alert_bytes: int = kept_alerts.MAX_BYTES,
    ) -> None:
        self.use(db)
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._max_alert_bytes = max_alert_bytes
        self._since_pruned = 0
        self.used = 0.0
        """The share of the bounds that was used at the last check."""

    def put(self, note: Notification, *, step: bool) -> None:
        """Store the state of an incident; with `step` it is a notification, and adds a step if it is a new one.

        Severity only rises: replaying some of its alerts does not make an incident less severe.
        """
        row = self._db.execute("SELECT rank, steps FROM incidents WHERE id = ?", (note.incident,)).fetchone()
        rank, steps = (row[0], _steps(row[1])) if row and row[0] in RANK.values() else (0, ())
        if step and all(earlier.severity != note.severity for earlier in steps):
            steps = *steps, Step(note.last, note.severity, note.case, note.came_from)
        if RANK[note.severity] >= rank:
            terms = search_terms.terms(note)
            row = _row(kept_alerts.without_alerts(note), steps, sum(map(len, terms)))
            self._db.execute(_PUT, row)
            search_terms.add(self._db, note, terms)
            kept_alerts.put(self._db, note, [str(part) for part in row[3:7]])
        self._since_pruned += 1
        if self._since_pruned >= PRUNE_EVERY:
            self.prune(note.last)

    def lost_events(self, host: str, now: int) -> None:
        """Mark the open incidents of a host whose Falco dropped events."""
        self._db.execute("UPDATE incidents SET incomplete = 1 WHERE host = ? AND closes > ?", (host, now))

    def listed(self, wanted: IncidentFilter, now: int) -> tuple[list[IncidentRow], int]:
        """One page of the incidents that pass the filter, and the number of all that do."""
        return self.found(wanted, now)[:2]

    def found(self, wanted: IncidentFilter, now: int) -> Found:
        """What a filter finds. It is applied once, since a search reads all terms."""
        where, values = _conditions(wanted, now)
        tables = search_terms.JOINED if wanted.text or wanted.terms else "incidents"
        query = f"SELECT {SORT_COLUMNS[wanted.sort]}, last, id, rank FROM {tables} WHERE {where}"  # noqa: S608 - only our own words
        every = self._db.execute(query, values).fetchall()
        ranks = {RANK[severity] for severity in wanted.severities} or set(RANK.values())
        passing = sorted((row for row in every if row[3] in ranks), reverse=not wanted.ascending)
        ids = [row[2] for row in passing[wanted.offset : wanted.offset + wanted.limit]]
        marks = ", ".join("?" * len(ids))
        query = f"SELECT {_LIST} FROM incidents WHERE id IN ({marks})"  # noqa: S608 - as above
        rows = {row[0]: _listed(row) for row in self._db.execute(query, ids)}
        shown = [row for row in map(rows.get, ids) if row is not None]
        return Found(shown, len(passing), [(row[3], row[1]) for row in every])

    def matching(self, prefix: str) -> list[str]:
        """Up to ten ids with this prefix."""
        pattern = prefix + "g"  # ids are hexadecimal
        rows = self._db.execute("SELECT id FROM incidents WHERE id >= ? AND id < ? LIMIT 10", (prefix, pattern))
        return [row[0] for row in rows.fetchall()]

    def find(self, incident: str) -> tuple[Notification, tuple[Step, ...]] | None:
        """An incident in full: its latest notification and its steps; None if it is unknown or its row is damaged."""
        query = "SELECT body, steps, incomplete FROM incidents WHERE id = ?"
        row = self._db.execute(query, (incident,)).fetchone()
        if row is None:
            return None
        try:
            note = msgspec.json.decode(zlib.decompress(row[0]), type=Notification)
        except (msgspec.MsgspecError, zlib.error, TypeError):
            return None
        note = kept_alerts.with_alerts(self._db, note)
        return msgspec.structs.replace(note, incomplete=bool(row[2])), _steps(row[1])

    def rows(self) -> list[tuple[object, ...]]:
        """Everything, as `add_rows` takes it: each row after the name of its table."""
        return [(table, *row) for table in TABLE_NAMES for row in self._db.execute(f"SELECT * FROM {table}")]  # noqa: S608 - only our own words

    def add_rows(self, rows: Sequence[tuple[object, ...]]) -> None:
        """Put the rows of another archive into this one."""
        for table, *row in rows:
            marks = ", ".join("?" * TABLE_NAMES[str(table)])
            self._db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)  # noqa: S608 - as above

    def clear(self) -> None:
        """Remove everything."""
        for table in TABLE_NAMES:
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - as above

    def index_older(self) -> None:
        """Make those incidents searchable that an older version stored."""
        query = "SELECT id FROM incidents WHERE id NOT IN (SELECT id FROM search_terms)"
        for (incident,) in self._db.execute(query).fetchall():
            found = self.find(incident)
            if found is not None:
                search_terms.add(self._db, found[0], search_terms.terms(found[0]))

    def use(self, db: sqlite3.Connection) -> None:
        """Switch to another connection, to a file with the same content."""
        self._db = db
        search_terms.use_in(db)

    def prune(self, now: int) -> None:
        """Remove expired incidents and, beyond the bounds, the oldest ones of the places with most."""
        self._since_pruned = 0
        changes = self._db.total_changes
        self._db.execute("DELETE FROM incidents WHERE last < ?", (now - RETENTION_SECONDS * 1_000_000_000,))
        count, size = self._db.execute("SELECT count(*), coalesce(sum(size), 0) FROM incidents").fetchone()
        self.used = max(count / self._capacity, size / self._max_bytes)
        for used, most, weight in ((count, self._capacity, "1"), (size, self._max_bytes, "size")):
            if used > most:
                shrink(self._db, "incidents", _PLACE, weight, "last DESC, id DESC", most)
        if self._db.total_changes > changes:
            for table in ("search_terms", "kept_alerts"):
                self._db.execute(f"DELETE FROM {table} WHERE id NOT IN (SELECT id FROM incidents)")  # noqa: S608 - as above
        kept_alerts.prune(self._db, _PLACE, self._max_alert_bytes)


def in_memory() -> Archive:
    """An archive that lasts as long as the process."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(f"{TABLES};{EVIDENCE_TABLES}")
    return Archive(db, MAX_INCIDENTS_IN_MEMORY, MAX_BYTES_IN_MEMORY, kept_alerts.MAX_BYTES_IN_MEMORY)


def read_only(path: Path) -> Archive:
    """The archive in a state file that a service may be using; raises sqlite3.Error if it is not one."""
    db = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, isolation_level=None)
    archive = Archive(db)
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "incidents" in tables and "search_terms" not in tables:  # a file of an older version
        db.executescript(EVIDENCE_TABLES.replace("CREATE TABLE", "CREATE TEMP TABLE"))
        archive.index_older()
    return archive


def _row(note: Notification, steps: Sequence[Step], beside: int) -> tuple[object, ...]:
    """The row of an incident; `beside` is the size of what it is searched by."""
    where = note.where
    body = zlib.compress(msgspec.json.encode(note), 1)
    place = where.host, where.namespace, where.pod, where.container_name or where.container
    times = note.first, note.last, note.closes, note.count, note.incomplete
    steps_json = msgspec.json.encode(steps).decode()
    size = row_size(len(body) + len(steps_json) + sum(map(len, place)) + 250) + beside
    return note.incident, RANK[note.severity], note.case, *place, *times, steps_json, size, body


def _steps(text: str) -> tuple[Step, ...]:
    try:
        return msgspec.json.decode(text, type=tuple[Step, ...])
    except (msgspec.MsgspecError, TypeError):  # a damaged row must not break the page, or a decision
        return ()


def _listed(row: Sequence[Any]) -> IncidentRow | None:
    """A row of a list; None if it is damaged."""
    severity = next((word for word, rank in RANK.items() if rank == row[1]), "")
    try:
        return msgspec.convert((row[0], severity, *row[2:11], bool(row[11]), _steps(row[12])), IncidentRow)
    except msgspec.ValidationError:
        return None


def _conditions(wanted: IncidentFilter, now: int) -> tuple[str, list[object]]:
    parts = ["1"]
    values: list[object] = []
    if wanted.since:
        parts.append("last >= ?")
        values.append(wanted.since)
    if wanted.until:
        parts.append("last < ?")
        values.append(wanted.until)
    if wanted.state:
        parts.append("closes > ?" if wanted.state == "open" else "closes <= ?")
        values.append(now)
    for condition, text in _text_conditions(wanted):
        parts.append(condition)
        values += [text] * condition.count("?")
    return " AND ".join(parts), values


def _text_conditions(wanted: IncidentFilter) -> Iterator[tuple[str, str]]:
    for kind, text in wanted.terms:
        if kind == "namespace":
            yield "namespace = ?", text
        else:
            yield search_terms.condition(kind), text.lower()
    if wanted.text:
        place = "namespace || '/' || pod || ' ' || container || ' ' || host || ' ' || case_name || ' ' || id"
        yield f"(has_text(lower({place}), ?) OR {search_terms.condition('')})", wanted.text.lower()
