"""What incidents are searched by beside their place, case and id: commands, files, addresses, users, rules, techniques.

Kept in a table of its own, so that a list without a search reads none of it.
"""

import sqlite3
from collections.abc import Iterable

from sidecar.model import Alert, Detection, Notification
from sidecar.packed_alert import unpack
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
        _joined(map(mitre.described, tags)),
        _joined(alert.fields.user or "" for alert in alerts) or _joined([note.fields.user or ""]),
        _joined([note.correlation_rule, *note.rules]),
    )


JOINED = "incidents LEFT JOIN search_terms USING (id)"


def condition(kind: str) -> str:
    """The condition of SQL that a row of JOINED has a term of a kind, "" for any; its parameter is in lower case."""
    text = " || char(10) || ".join(COLUMNS[kind] if kind else ANYWHERE)
    return f"{'has_address' if kind == 'address' else 'has_text'}({text}, ?)"


def use_in(db: sqlite3.Connection) -> None:
    """Let a connection search. Python finds a text in a text ten times as fast as SQLite."""
    db.create_function("has_text", 2, lambda text, part: text is not None and part in text, deterministic=True)
    db.create_function("has_address", 2, has_address, deterministic=True)


def has_address(text: str | None, part: str) -> bool:
    """Whether an address, or the beginning of one, is in a text, as whole numbers.

    >>> [has_address("10.0.0.12:443", part) for part in ("10.0.0.1", "10.0.0.12", "10.0", "0.0.0.12")]
    [False, True, True, False]
    """
    at = text.find(part) if text else -1
    while text and at >= 0:
        end = at + len(part)
        if not _splits_number(text[at - 1 : at + 1] if at else "") and not _splits_number(text[end - 1 : end + 1]):
            return True
        at = text.find(part, at + 1)
    return False


def _splits_number(around: str) -> bool:
    """Whether the place between two characters is within a number."""
    return len(around) == 2 and around.isdigit()


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
