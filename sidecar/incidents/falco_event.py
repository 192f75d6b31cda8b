"""A notification as the Falco event that Falcosidekick takes, and every output behind it understands.

Facts of Falcosidekick that shape it: priority is one of Falco's words, unknown top-level keys are dropped (so all data
is in `output_fields`), the uuid is replaced, `k8s.*` must be text or absent, and once an event is larger than 4,096
bytes every text over 512 is cut, so none is. Field names hold letters, digits and dots only, for Falco Talon to match.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from sidecar.correlation.notification import SECOND_NS, process_chain, timeline_events
from sidecar.model import ASKED, PRIORITY, Fields, Message, Notification, Report
from sidecar.text import escape

LONGEST = 500
"""Bytes of one text: Falcosidekick cuts above 512 once the event is larger than 4,096 bytes."""

_FOR_CORRELATION_ONLY = frozenset(("proc.pexepath",))
"""Fields that an incident does not repeat."""

_OF_THE_PROCESS = tuple(
    (field.encode_name, field.name)
    for field in msgspec.structs.fields(Fields)
    if field.encode_name in ASKED
    and field.encode_name.startswith(("proc.", "user.", "fd."))
    and not field.encode_name.endswith(("]", ".ts"))
    and field.encode_name not in _FOR_CORRELATION_ONLY
)

_encode = msgspec.json.Encoder(order="deterministic").encode


def to_json(note: Message) -> bytes:
    """The message as one JSON line without its newline: exactly what a sink is sent."""
    return _encode(to_event(note))


def to_event(note: Message) -> dict[str, Any]:
    """The message as a Falco event: flat text fields, `source` syscall, rule = the case."""
    return _report(note) if isinstance(note, Report) else _incident(note)


def _report(report: Report) -> dict[str, Any]:
    priority = PRIORITY[report.severity]
    fields = {
        "container.id": report.where.container or "host",
        "k8s.ns.name": report.where.namespace,
        "k8s.pod.name": report.where.pod,
        "correlator.report": report.text,
        "correlator.severity": report.severity,
    }
    return {
        "hostname": escape.event(report.where.host),
        "output": cut(escape.sentence(f"{_clock(report.time)}: {priority} {report.case} | {report.text}")),
        "output_fields": {name: cut(escape.event(value)) for name, value in fields.items() if value},
        "priority": priority,
        "rule": report.case,
        "source": "syscall",
        "tags": ["correlator_report"],
        "time": rfc3339(report.time),
    }


def _incident(note: Notification) -> dict[str, Any]:
    priority = PRIORITY[note.severity]
    fields = {name: cut(escape.event(value)) for name, value in _fields(note) if value}
    return {
        "hostname": escape.event(note.where.host),
        "output": cut(escape.sentence(f"{_clock(note.last)}: {priority} {_sentence(note)}")),
        "output_fields": fields,
        "priority": priority,
        "rule": note.case,
        "source": "syscall",
        "tags": [escape.event(tag) for tag in note.tags],
        "time": rfc3339(note.last),
    }


def rfc3339(time: int) -> str:
    """Nanoseconds since 1970 as `2026-11-24T03:03:08.051762630Z`."""
    return f"{datetime.fromtimestamp(time // SECOND_NS, UTC):%Y-%m-%dT%H:%M:%S}.{time % SECOND_NS:09d}Z"


def cut(text: str) -> str:
    """At most LONGEST bytes of a text, with a sign where it was cut."""
    data = text.encode("utf-8", "replace")
    if len(data) <= LONGEST:
        return data.decode()
    return data[: LONGEST - 5].decode("utf-8", "ignore") + "[...]"


def _clock(time: int) -> str:
    return f"{datetime.fromtimestamp(time // SECOND_NS, UTC):%H:%M:%S}.{time % SECOND_NS:09d}"


def _sentence(note: Notification) -> str:
    where = note.where
    named = " ".join(
        f"{name}={value}"
        for name, value in (
            ("k8s_ns_name", where.namespace),
            ("k8s_pod_name", where.pod),
            ("container_id", where.container or "host"),
            ("container_name", where.container_name),
        )
        if value
    )
    rose = f" severity_from={note.came_from}" if note.came_from else ""
    return (
        f"{note.case} | incident={note.incident} severity={note.severity}{rose} step={note.step} "
        f"groups={','.join(note.groups)} {named} | {note.summary}".rstrip(" |")
    )


def _fields(note: Notification) -> Iterator[tuple[str, str]]:
    yield "incident.id", note.incident
    yield "incident.severity", note.severity
    yield "incident.severity.from", note.came_from
    yield "incident.case", note.case
    yield "incident.summary", note.summary
    yield "incident.step", str(note.step)
    yield "incident.previous", note.previous
    yield "incident.correlation", note.correlation_rule
    yield "incident.groups", ",".join(note.groups)
    yield "incident.first", rfc3339(note.first)
    yield "incident.last", rfc3339(note.last)
    yield "incident.count", str(note.count)
    yield "incident.incomplete", "true" if note.incomplete else ""
    yield "incident.rules", ", ".join(note.rules)
    yield "incident.timeline", timeline(note, LONGEST)
    yield "incident.join", ",".join(sorted({detection.join for detection, _ in note.timeline}))
    for number, (words, command) in enumerate(note.triage, 1):
        yield f"incident.triage.{number}", f"{words}: {command}" if command else words
    yield from _place(note)


def _place(note: Notification) -> Iterator[tuple[str, str]]:
    where, fields = note.where, note.fields
    yield "container.id", where.container or "host"
    yield "container.name", where.container_name
    yield "container.image.repository", fields.image or where.image
    yield "container.image.tag", fields.image_tag or ""
    yield "k8s.ns.name", where.namespace
    yield "k8s.pod.name", where.pod
    for name, attribute in _OF_THE_PROCESS:
        value = getattr(fields, attribute)
        yield name, "" if value is None else str(value)


def timeline(note: Notification, limit: int) -> str:
    """The events in short, oldest first; if they are longer than `limit` bytes, middle ones are left out."""
    entries = [
        f"+{(event.detection.time - note.first) / SECOND_NS:.1f}s {'+'.join(event.groups)}: "
        f"{process_chain(event.detection)}"
        for event in timeline_events(note)
    ]
    for left_out in range(len(entries)):
        middle = len(entries) // 2
        before, after = entries[: middle - left_out // 2], entries[middle + (left_out + 1) // 2 :]
        told = "; ".join([*before, *([f"... {left_out} more ..."] if left_out else []), *after])
        if len(told.encode("utf-8", "replace")) <= limit:
            return told
    return f"{len(entries)} moments"
