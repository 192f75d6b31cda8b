"""Messages and raw alerts as protobuf, for subscribers over gRPC.

Falco's interface has `string` fields, and a `string` that is not UTF-8 makes a stock client lose its stream: so every
text is made valid here.
"""

from typing import Any

import msgspec

from sidecar._proto.correlator.v1 import incidents_pb2 as v1
from sidecar._proto.falco import outputs_pb2
from sidecar.correlation.notification import TimelineEvent, timeline_events
from sidecar.model import RANK, Notification, Where
from sidecar.text import escape

PRIORITIES = ("emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug")
"""Falco's words in the order of its enum."""

_INTERNAL = 2


class _FalcoEvent(msgspec.Struct):
    """Falco's JSON as far as its gRPC output carries it."""

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
    """A Falco event in JSON as `falco.outputs.response`, every value a text as Falco sends it.

    Raises:
        ValueError: it is not a Falco event.
    """
    event = _opened(body)
    word = event.priority.lower()
    made = outputs_pb2.response(
        priority=PRIORITIES.index("informational" if word == "info" else word),
        source_deprecated=_INTERNAL if event.source == "internal" else 0,
        rule=_bytes(event.rule),
        output=_bytes(event.output),
        hostname=_bytes(event.hostname),
        tags=[_bytes(tag) for tag in event.tags or ()],
        source=_bytes(event.source or ""),
    )
    made.time.FromJsonString(event.time)
    for name, value in event.output_fields.items():
        made.output_fields[_text(name)] = _bytes(_shown(value))
    return made.SerializeToString()


def mended(message: bytes) -> bytes:
    """A `falco.outputs.response` whose texts are valid UTF-8; the same bytes if they are already.

    Raises:
        ValueError: it is none.
    """
    try:
        made = outputs_pb2.response.FromString(message)
    except Exception as error:
        raise ValueError("no falco.outputs.response") from error
    texts = [made.rule, made.output, made.hostname, made.source, *made.tags, *made.output_fields.values()]
    if all(_is_text(each) for each in texts):
        return message
    for name in ("rule", "output", "hostname", "source"):
        setattr(made, name, _replaced(getattr(made, name)))
    made.tags[:] = [_replaced(tag) for tag in made.tags]
    for name, value in list(made.output_fields.items()):  # it must not change under our feet
        made.output_fields[name] = _replaced(value)
    return made.SerializeToString()


def step(key: str, note: Notification) -> bytes:
    """A step of an incident as `correlator.v1.IncidentStep`."""
    made = v1.IncidentStep(
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
    made.first.FromNanoseconds(note.first)
    made.last.FromNanoseconds(note.last)
    return made.SerializeToString()


def _opened(body: bytes) -> _FalcoEvent:
    try:
        return _decode(body)
    except UnicodeDecodeError:
        return _opened(_replaced(body))
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
    seen = moment.detection
    made = v1.Moment(
        groups=_texts(moment.groups),
        rules=_texts(moment.rules),
        join=seen.join,
        path=[v1.Process(pid=pid, name=_text(name or "")) for pid, name in seen.path],
        command=_text(seen.cmdline),
        detail=_text(seen.detail),
    )
    made.time.FromNanoseconds(seen.time)
    return made


def _severity(word: str) -> Any:  # the stub has a type that the runtime has not
    return RANK.get(word, 0)


def _shown(value: object) -> str:
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


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
