"""What incidents are searched by beside their place, case and id: commands, files, addresses, users, rules, techniques.

Kept in a table of its own, so that a list without a search reads none of it.
"""

import sqlite3
from collections.abc import Iterable

from sidecar.alerts.packing import unpack
from sidecar.model import Alert, Detection, Notification
from sidecar.text import mitre

MAX_CHARS = 16_000
"""Of each kind of term of one incident: the commands of a timeline that is full of different long ones are cut."""

TABLE = """
CREATE TABLE search_terms (
    id TEXT PRIMARY KEY, image TEXT NOT NULL, command TEXT NOT NULL, detail TEXT NOT NULL, technique TEXT NOT NULL,
    user TEXT NOT NULL, rule TEXT NOT NULL
)
"""

COLUMNS = {
    "address": ("detail", "command"),
    "image": ("image",),
    "command": ("command",),
    "technique": ("technique",),
    "user": ("user",),
    "rule": ("rule",),
}
"""The columns that are searched for each kind of term; an address is often named in a command only."""

ANYWHERE = ("image", "command", "detail", "technique", "user", "rule")


def terms(note: Notification) -> tuple[str, ...]:
    """A row of the table without its id: texts in lower case, one a line."""
    alerts = [alert for detection, _ in note.timeline if (alert := kept_alert(detection)) is not None]
    detections = [detection for detection, _ in note.timeline]
    tags = dict.fromkeys(tag for tags in (note.tags, *(alert.tags for alert in alerts)) for tag in tags)
    return (
        _joined([note.where.image]),
        _joined(each.cmdline for each in detections),
        _joined(each.detail for each in detections),
        _joined(f"{tag} {mitre.name(tag)}" for tag in tags if mitre.is_technique(tag) or mitre.name(tag)),
        _joined(alert.fields.user or "" for alert in alerts) or _joined([note.fields.user or ""]),
        _joined([note.correlation_rule, *note.rules]),
    )


def condition(kind: str) -> str:
    """The condition of SQL that an incident has a term of a kind, "" for any; the text is a parameter of each `?`."""
    parts = " OR ".join(f"instr({column}, ?) > 0" for column in columns(kind))
    return f"id IN (SELECT id FROM search_terms WHERE {parts})"  # noqa: S608 - only our own words


def columns(kind: str) -> tuple[str, ...]:
    """The columns that hold terms of a kind, "" for any."""
    return COLUMNS[kind] if kind else ANYWHERE


def add(db: sqlite3.Connection, note: Notification, row: Iterable[str]) -> None:
    """Store the terms of an incident."""
    db.execute("INSERT OR REPLACE INTO search_terms VALUES (?, ?, ?, ?, ?, ?, ?)", (note.incident, *row))


def kept_alert(detection: Detection) -> Alert | None:
    """The alert of a detection; None if it was not kept, or is damaged."""
    try:
        return unpack(detection.packed) if detection.packed else None
    except (ValueError, TypeError):
        return None


def _joined(texts: Iterable[str]) -> str:
    return "\n".join(dict.fromkeys(text.lower() for text in texts if text))[:MAX_CHARS]
