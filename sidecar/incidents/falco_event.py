"""A notification as the Falco event that Falcosidekick takes, and every output behind it shows whole.

Facts that shape it. Falcosidekick: priority is one of Falco's words, unknown top-level keys are dropped (so all data
is in `output_fields`), the uuid is replaced, `k8s.*` must be text or absent, and once an event is larger than 4,096
bytes every text over 512 is cut. Elasticsearch: `x` and `x.y` cannot both be fields. Discord: 25 fields, of which
Falcosidekick adds seven. Falco Talon: names hold letters, digits and dots only.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from sidecar.correlation.notification import SECOND_NS, confidence, process_chain, timeline_events
from sidecar.incidents.indicators import indicators
from sidecar.model import PRIORITY, Detection, Message, Notification, Report
from sidecar.text import escape
from sidecar.text.placeholders import filled, link_values

MAX_FIELDS = 18
"""Fields of an incident."""

MAX_EVENT_BYTES = 4096
"""Bytes of an event as JSON: above it Falcosidekick cuts texts."""

MAX_OUTPUT_BYTES = 640
MAX_TEXT_BYTES = 600
"""Bytes of the longest texts: timeline and indicators; others are shorter by nature."""

MAX_NEXT_BYTES = 1000
"""Bytes of the next steps: Discord shows 1,024 characters of a field."""

MAX_NAME_BYTES = 256
"""Bytes of a name: of a pod, container, case, cluster ..."""

MAX_TIMELINE_COMMAND_CHARS = 80


class Origin(NamedTuple):
    """Where incidents come from: the name of the cluster, and the address of an incident's page, a template."""

    cluster: str = ""
    url: str = ""


_encode = msgspec.json.Encoder(order="deterministic").encode


LOW_CONFIDENCE = "Low confidence: some evidence came from orphaned processes whose origin is inferred."


def to_json(note: Message, origin: Origin = Origin()) -> bytes:  # noqa: B008 - immutable
    """The message as one JSON line without its newline: exactly what a sink is sent."""
    return _encode(to_event(note, origin))


def to_event(note: Message, origin: Origin = Origin()) -> dict[str, Any]:  # noqa: B008 - immutable
    """The message as a Falco event: flat text fields, `source` syscall, rule = the case."""
    return _report(note, origin) if isinstance(note, Report) else _incident(note, origin)


def _report(report: Report, origin: Origin) -> dict[str, Any]:
    priority = PRIORITY[report.severity]
    fields = {
        "container.id": report.where.container or "host",
        "k8s.ns.name": report.where.namespace,
        "k8s.pod.name": report.where.pod,
        "correlator.report": report.text,
        "correlator.severity": report.severity,
        "correlator.cluster": origin.cluster,
    }
    return {
        "hostname": escape.event(report.where.host),
        "output": cut(
            escape.sentence(f"{_clock(report.time)}: {priority} {report.case}: {report.text}"), MAX_OUTPUT_BYTES
        ),
        "output_fields": {name: cut(escape.event(value), MAX_TEXT_BYTES) for name, value in fields.items() if value},
        "priority": priority,
        "rule": report.case,
        "source": "syscall",
        "tags": ["correlator_report"],
        "time": rfc3339(report.time),
    }


def _incident(note: Notification, origin: Origin) -> dict[str, Any]:
    fields = {name: cut(escape.event(value), limit) for name, value, limit in _fields(note, origin) if value}
    event = {
        "hostname": escape.event(note.where.host),
        "output": cut(escape.sentence(_sentence(note, fields)), MAX_OUTPUT_BYTES),
        "output_fields": fields,
        "priority": PRIORITY[note.severity],
        "rule": note.case,
        "source": "syscall",
        "tags": [escape.event(tag) for tag in note.tags],
        "time": rfc3339(note.last),
    }
    while (excess := len(_encode(event)) - MAX_EVENT_BYTES) > 0:  # quotes and backslashes count twice
        longest = max(fields, key=lambda name: len(_encode(fields[name])))
        room = len(fields[longest].encode()) - max(excess // 2, 16)
        if longest == "incident.next":  # half a command is worse than none
            fields[longest] = escape.event(next_steps(note, room, fields.get("incident.url", "")))
        else:
            fields[longest] = cut(fields[longest], max(room, 32))
    return event


def rfc3339(time: int) -> str:
    """Nanoseconds since 1970 as `2026-11-24T03:03:08.051762630Z`."""
    return f"{datetime.fromtimestamp(time // SECOND_NS, UTC):%Y-%m-%dT%H:%M:%S}.{time % SECOND_NS:09d}Z"


def cut(text: str, limit: int) -> str:
    """At most `limit` bytes of a text, with a sign where it was cut."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 5].decode("utf-8", "ignore") + "[...]"


def page_url(note: Notification, origin: Origin) -> str:
    """The address of the incident's page, "" if none is set. Without a placeholder the path of our pages is added."""
    if not origin.url:
        return ""
    template = origin.url if "{" in origin.url else origin.url.rstrip("/") + "/incidents/{incident}"
    values = {**link_values(note), "cluster": origin.cluster}
    return filled(template, values, lambda value: quote(value, safe=""))


def _clock(time: int) -> str:
    return f"{datetime.fromtimestamp(time // SECOND_NS, UTC):%H:%M:%S}.{time % SECOND_NS:09d}"


def _sentence(note: Notification, fields: dict[str, str]) -> str:
    """The `output`: when, how severe, what happened, then the remote addresses and where to look."""
    summary = fields.get("incident.summary", "")
    headline = f"{_clock(note.last)}: {PRIORITY[note.severity]} {note.case}"
    if summary:
        headline += f": {cut(summary, 400)}"
    reference = f"incident={note.incident} severity={note.severity}"
    if note.came_from:
        reference += f" (was {note.came_from})"
    if "incident.url" in fields:
        reference += f" {fields['incident.url']}"
    addresses = [address for address in indicators(note).addresses if address not in summary][:3]
    if addresses:
        return f"{headline} | addresses: {', '.join(addresses)} | {reference}"
    return f"{headline} | {reference}"


def _fields(note: Notification, origin: Origin) -> Iterator[tuple[str, str, int]]:
    """Name, value and maximum length in bytes of each field; no name is a prefix of another."""
    incomplete = " Falco dropped events, so evidence may be missing." if note.incomplete else ""
    doubt = f" {LOW_CONFIDENCE}" if confidence(note) == "low" else ""
    yield "incident.id", note.incident, MAX_NAME_BYTES
    yield "incident.url", page_url(note, origin), MAX_TEXT_BYTES
    yield "incident.cluster", origin.cluster, MAX_NAME_BYTES
    yield "incident.severity", note.severity, MAX_NAME_BYTES
    yield "incident.from", note.came_from, MAX_NAME_BYTES
    yield "incident.case", note.case, MAX_NAME_BYTES
    yield "incident.rule", note.correlation_rule, MAX_NAME_BYTES
    yield "incident.step", str(note.step), MAX_NAME_BYTES
    yield "incident.summary", note.summary + incomplete + doubt, MAX_TEXT_BYTES
    yield "incident.groups", ",".join(note.groups), MAX_NAME_BYTES
    yield "incident.timeline", timeline(note, MAX_TEXT_BYTES), MAX_TEXT_BYTES
    yield "incident.indicators", ", ".join(indicators(note).all()), MAX_TEXT_BYTES
    yield "incident.next", next_steps(note, MAX_NEXT_BYTES, page_url(note, origin)), MAX_NEXT_BYTES
    yield "container.id", note.where.container or "host", MAX_NAME_BYTES
    yield "container.name", note.where.container_name, MAX_NAME_BYTES
    yield "k8s.ns.name", note.where.namespace, MAX_NAME_BYTES
    yield "k8s.pod.name", note.where.pod, MAX_NAME_BYTES
    yield "proc.vpid", str(note.fields.vpid or ""), MAX_NAME_BYTES


def next_steps(note: Notification, limit: int, url: str = "") -> str:
    """The first steps of the triage, as many as fit into `limit` bytes, a command whole or not at all.

    If something is left out, the end says where it is: on the page at `url`, or in the terminal.
    """
    everything = f"; all commands: {url or f'falco-correlator incidents show {note.incident}'}"
    room = limit - _sent_bytes(everything)
    text, is_whole = "", True
    for number, (words, command) in enumerate(note.triage, 1):
        before = f"{text}; " if text else ""
        forms = [f"{before}{number}. {words}: {command}"] if command else []
        fitting = [form for form in [*forms, f"{before}{number}. {words}"] if _sent_bytes(form) <= room]
        is_whole = is_whole and bool(fitting) and (not forms or fitting[0] == forms[0])
        if not fitting:
            break
        text = fitting[0]
    return text if is_whole or not text else text + everything


def timeline(note: Notification, limit: int) -> str:
    """The events in short, oldest first; if they are longer than `limit` bytes, middle ones are left out."""
    entries = [
        f"+{(event.detection.time - note.first) / SECOND_NS:.1f}s {'+'.join(event.groups)}: {_moment(event.detection)}"
        for event in timeline_events(note)
    ]
    middle = len(entries) // 2
    text = "; ".join(entries)
    left_out = 0
    while _sent_bytes(text) > limit:
        left_out += 1
        if left_out >= len(entries):
            return f"{len(entries)} moments"
        before = entries[: middle - left_out // 2]
        after = entries[middle + (left_out + 1) // 2 :]
        text = "; ".join([*before, f"... {left_out} more ...", *after])
    return text


def _sent_bytes(text: str) -> int:
    return len(escape.event(text).encode("utf-8", "replace"))


def _moment(detection: Detection) -> str:
    """The processes from the anchor down, and the command unless it says no more than they do."""
    chain = process_chain(detection)
    command = detection.cmdline
    if command in ("", detection.path[0][1]):
        return chain
    shown = command if len(command) <= MAX_TIMELINE_COMMAND_CHARS else command[: MAX_TIMELINE_COMMAND_CHARS - 3] + "..."
    return f"{chain} ({shown})"
