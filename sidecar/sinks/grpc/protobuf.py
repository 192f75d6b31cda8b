"""Messages and raw alerts as protobuf, for subscribers over gRPC.

Falco's interface has `string` fields, and invalid UTF-8 in one of them ends the stream of a stock client, so every text
is made valid here.
"""

from typing import Any

import msgspec

from sidecar._proto.correlator.v1 import incidents_pb2 as v1
from sidecar._proto.falco import outputs_pb2
from sidecar.correlation.notification import TimelineEvent, timeline_events
from sidecar.model import GRPC_INTERNAL_SOURCE, RANK, Notification, Where
from sidecar.text import escape

PRIORITIES = ("emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug")
"""Falco's words in the order of its enum."""


class _FalcoEvent(msgspec.Struct):
    """The part of Falco's JSON that its gRPC output has too."""

    time: str
    rule: str
    priority: str = "debug"
    output: str = ""
    output_fields: dict[str, Any] = {}
    hostname: str = ""
    tags: list[str] | None = None
    source: str | None = None


_decode = msgspec.json.Decoder(_FalcoEvent).decode


def response(body: bytes) -> bytes:
    """A Falco event in JSON as a serialized `falco.outputs.response`, with every value as text, as Falco sends it.

    Raises:
        ValueError: it is not a Falco event.
    """
    event = _parsed(body)
    word = event.priority.lower()
    message = outputs_pb2.response(
        priority=PRIORITIES.index("informational" if word == "info" else word),
        source_deprecated=GRPC_INTERNAL_SOURCE if event.source == "internal" else 0,
        rule=_bytes(event.rule),
        output=_bytes(event.output),
        hostname=_bytes(event.hostname),
        tags=[_bytes(tag) for tag in event.tags or ()],
        source=_bytes(event.source or ""),
    )
    message.time.FromJsonString(event.time)
    for name, value in event.output_fields.items():
        message.output_fields[_text(name)] = _bytes(_as_text(value))
    return message.SerializeToString()


def with_valid_text(message: bytes) -> bytes:
    """A serialized `falco.outputs.response` with valid UTF-8 in all its texts; the same bytes if it had that already.

    Raises:
        ValueError: it cannot be parsed.
    """
    try:
        parsed = outputs_pb2.response.FromString(message)
    except Exception as error:
        raise ValueError("not a falco.outputs.response") from error
    texts = [
        parsed.rule,
        parsed.output,
        parsed.hostname,
        parsed.source,
        *parsed.tags,
        *parsed.output_fields.values(),
    ]
    if all(_is_utf8(text) for text in texts):
        return message
    for name in ("rule", "output", "hostname", "source"):
        setattr(parsed, name, _replaced(getattr(parsed, name)))
    parsed.tags[:] = [_replaced(tag) for tag in parsed.tags]
    for name, value in list(parsed.output_fields.items()):  # a copy, because the loop changes it
        parsed.output_fields[name] = _replaced(value)
    return parsed.SerializeToString()


def step(key: str, note: Notification) -> bytes:
    """A step of an incident as a serialized `correlator.v1.IncidentStep`."""
    message = v1.IncidentStep(
        key=_text(key),
        incident=_text(note.incident),
        previous=_text(note.previous),
        step=note.step,
        correlation_rule=_text(note.correlation_rule),
        case=_text(note.case),
        severity=_severity(note.severity),
        came_from=_severity(note.came_from),
        groups=_texts(note.groups),
        tags=_texts(note.tags),
        place=_place(note.where),
        count=note.count,
        incomplete=note.incomplete,
        timeline=[_moment(moment) for moment in timeline_events(note)],
        rules=_texts(note.rules),
        triage=[v1.TriageStep(do=_text(words), command=_text(command)) for words, command in note.triage],
    )
    message.first.FromNanoseconds(note.first)
    message.last.FromNanoseconds(note.last)
    return message.SerializeToString()


def _parsed(body: bytes) -> _FalcoEvent:
    try:
        return _decode(body)
    except UnicodeDecodeError:
        return _parsed(_replaced(body))
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _place(where: Where) -> v1.Place:
    return v1.Place(
        host=_text(where.host),
        container_id=_text(where.container),
        container_name=_text(where.container_name),
        image=_text(where.image),
        namespace=_text(where.namespace),
        pod=_text(where.pod),
    )


def _moment(moment: TimelineEvent) -> v1.Moment:
    detection = moment.detection
    message = v1.Moment(
        groups=_texts(moment.groups),
        rules=_texts(moment.rules),
        join=detection.join,
        path=[v1.Process(pid=pid, name=_text(name or "")) for pid, name in detection.path],
        command=_text(detection.cmdline),
        detail=_text(detection.detail),
    )
    message.time.FromNanoseconds(detection.time)
    return message


def _severity(word: str) -> Any:  # the type in the stub does not exist at run time
    return RANK.get(word, 0)


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<NA>" if value is None else str(value)


def _texts(values: tuple[str, ...]) -> list[str]:
    return [_text(value) for value in values]


def _text(value: str) -> str:
    return escape.terminal(value).encode("utf-8", "replace").decode()


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "replace")


def _replaced(data: bytes) -> bytes:
    return data.decode("utf-8", "replace").encode()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
