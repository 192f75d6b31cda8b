"""The alerts behind each moment of an incident, as they were kept: secrets masked, texts cut.

They have a budget of their own, so that they never push out an incident: beyond it the places with most of them lose
those of their oldest incidents, and the incidents stay.
"""

import sqlite3
import zlib
from collections.abc import Sequence
from typing import Any

from msgspec import msgpack
from msgspec.structs import replace

from sidecar.model import Detection, Notification
from sidecar.storage.shares import row_size, shrink

MAX_BYTES = 8 * 1024 * 1024

MAX_BYTES_IN_MEMORY = 1_000_000

MAX_INCIDENT_BYTES = 64 * 1024
"""Of one incident; beyond it the middle of its timeline has none."""

TABLE = """
CREATE TABLE kept_alerts (
    id TEXT PRIMARY KEY, host TEXT NOT NULL, namespace TEXT NOT NULL, pod TEXT NOT NULL, container TEXT NOT NULL,
    last INTEGER NOT NULL, size INTEGER NOT NULL, body BLOB NOT NULL
)
"""

Key = tuple[int, str, int]
"""Time, Falco rule and pid of a detection."""

_decode = msgpack.Decoder(list[tuple[Key, bytes]]).decode


def put(db: sqlite3.Connection, note: Notification, place: Sequence[str]) -> None:
    """Store the alerts of an incident. What memory was too short for stays as it was stored before."""
    packed = {_key(detection): detection.packed for detection, _ in note.timeline}
    if not any(packed.values()):
        return
    if not all(packed.values()):
        stored = _stored(db, note.incident)
        packed = {key: each or stored.get(key, b"") for key, each in packed.items()}
    kept = [(key, each) for key, each in packed.items() if each]
    body = _body(kept)
    while len(body) > MAX_INCIDENT_BYTES and len(kept) > 1:
        quarter = max(len(kept) // 4, 1)
        del kept[quarter : max(len(kept) - quarter, quarter + 1)]
        body = _body(kept)
    size = row_size(len(body) + sum(map(len, place)) + 100)
    db.execute(
        "INSERT OR REPLACE INTO kept_alerts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (note.incident, *place, note.last, size, body),
    )


def with_alerts(db: sqlite3.Connection, note: Notification) -> Notification:
    """The incident with the alerts that are stored of it."""
    stored = _stored(db, note.incident)
    timeline = tuple((replace(each, packed=stored.get(_key(each), b"")), groups) for each, groups in note.timeline)
    return replace(note, timeline=timeline) if stored else note


def without_alerts(note: Notification) -> Notification:
    """The incident as its own row holds it."""
    if not any(detection.packed for detection, _ in note.timeline):
        return note
    return replace(note, timeline=tuple((replace(each, packed=b""), groups) for each, groups in note.timeline))


def prune(db: sqlite3.Connection, place: str, max_bytes: int) -> None:
    """Remove alerts beyond the budget; `place` are the columns of a place."""
    (size,) = db.execute("SELECT coalesce(sum(size), 0) FROM kept_alerts").fetchone()
    if size > max_bytes:
        shrink(db, "kept_alerts", place, "size", "last DESC, id DESC", max_bytes)


def _key(detection: Detection) -> Key:
    return detection.time, detection.rule, detection.path[0][0]


def _stored(db: sqlite3.Connection, incident: str) -> dict[Key, bytes]:
    """The stored alerts of an incident; none if they are damaged."""
    row: Any = db.execute("SELECT body FROM kept_alerts WHERE id = ?", (incident,)).fetchone()
    try:
        return dict(_decode(zlib.decompress(row[0]))) if row is not None else {}
    except (ValueError, zlib.error, TypeError):
        return {}


def _body(kept: Sequence[tuple[Key, bytes]]) -> bytes:
    return zlib.compress(msgpack.encode(kept), 1)
