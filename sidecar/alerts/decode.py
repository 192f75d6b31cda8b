"""Bytes that Falco sent become an alert in normal form, or an AlertError with the reason.

There are two stages, since most alerts concern no correlation rule: the envelope (rule, tags, time) is decoded first,
and the output fields, kept as raw bytes until then, only for the alerts that a correlation rule names. An alert whose
rule and tags are known (`sidecar.alerts.verdict_cache`) is decoded in one pass. Texts leave here bounded,
but long enough for `truncate` to recognise a secret that its cut would go through.
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any, Protocol, get_args

import msgspec
from msgspec import Meta, Raw, Struct

from sidecar.alerts import ancestry
from sidecar.errors import AlertError
from sidecar.model import FALCO_PRIORITIES, FALLBACKS, MAX_NAME_CHARS, MAX_PACKED_CHARS, Alert, Fields

MAX_BYTES = 4 * 1024 * 1024
"""Falco cuts arguments at 4 KiB, so a real alert stays far below this."""

MAX_LABEL_BYTES = 2048
"""Bytes of undecoded tags up to which they serve as a label."""

CACHED_SECONDS = 64
"""Parsed seconds that are kept: many alerts share one."""

MAX_RAW_CHARS = 4352
"""Characters of a text before secrets are masked: the 4,096 of Falco's arguments and the program's name before them."""

_ABSENT = frozenset(("", "<NA>"))
_ABSENT_JSON = (b'""', b'"<NA>"', b"null")
_EMPTY = (b"", b"{}", b"null")


class Envelope(Protocol):
    """The outside of an alert, whichever transport brought it: enough to know whether a correlation rule cares."""

    @property
    def rule(self) -> str: ...
    @property
    def tags(self) -> tuple[str, ...]: ...
    @property
    def host(self) -> str: ...
    @property
    def time(self) -> int:
        """Time of the event in nanoseconds; 0 if it is missing or malformed."""

    @property
    def label(self) -> Hashable:
        """Represents rule and tags: alerts with the same label mean the same."""

    def anomalies(self) -> Sequence[str]:
        """Reasons to count although the alert is used: `unknown_priority`, `bad_utf8`, `via_falcosidekick`."""

    def check(self) -> None:
        """Raise AlertError if this cannot be evidence: `internal`, `no_rule`, `no_output_fields`."""

    def alert(self) -> Alert:
        """The whole alert in normal form. Raises AlertError (`wrong_type`, `bad_time`, ...)."""


class JsonEnvelope(Struct, gc=False, rename={"host": "hostname", "stamp": "time", "falco_tags": "tags"}):
    """One JSON alert of Falco: http_output, file_output, Falcosidekick's webhook. Unknown keys are skipped."""

    rule: str = ""
    stamp: str = ""
    output_fields: Raw = Raw(b"")
    falco_tags: Raw = Raw(b"[]")
    host: str = ""
    priority: str = ""
    source: str | None = None
    uuid: Any = None

    @property
    def time(self) -> int:
        with suppress(AlertError):
            return nanoseconds(self.stamp)
        return 0

    @property
    def label(self) -> Hashable:
        raw = bytes(self.falco_tags)
        return self.rule, raw if len(raw) <= MAX_LABEL_BYTES else self.tags

    @property
    def tags(self) -> tuple[str, ...]:
        try:
            return _tags.decode(self.falco_tags) or ()
        except msgspec.DecodeError:
            raise AlertError("wrong_type") from None

    def anomalies(self) -> Sequence[str]:
        if self.uuid is None and self.priority in FALCO_PRIORITIES:
            return ()
        reasons = []
        if self.priority.capitalize() not in FALCO_PRIORITIES:
            reasons.append("unknown_priority")
        if self.uuid is not None:  # Falcosidekick adds it, Falco does not
            reasons.append("via_falcosidekick")
        return reasons

    def check(self) -> None:
        if not self.rule:
            raise AlertError("no_rule")
        if self.source == "internal":
            raise AlertError("internal")
        if bytes(self.output_fields) in _EMPTY:
            raise AlertError("no_output_fields")

    def alert(self) -> Alert:
        return Alert(nanoseconds(self.stamp), self.host, self.rule, self.tags, _fields(bytes(self.output_fields)))


_NAMES = {field.name: field.encode_name for field in msgspec.structs.fields(Fields)}

TEXTS = tuple(field.name for field in msgspec.structs.fields(Fields) if str in get_args(field.type))
"""Attributes of `Fields` that hold text."""

ANCESTOR_COMMANDS = ("pcmdline", "acmdline2", "acmdline3", "acmdline4")
"""Attributes of `Fields` with the command lines of ancestors."""

KEYS = frozenset(_NAMES.values())
"""Falco's names of the output fields that are used."""

_RawFields = msgspec.defstruct("_RawFields", [(name, Raw, Raw(b"null")) for name in _NAMES], rename=_NAMES, gc=False)
_Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
_Packed = Annotated[str, Meta(min_length=1, max_length=MAX_PACKED_CHARS)]
_Command = Annotated[str, Meta(min_length=1)]
"""Of an ancestor's command line a short summary is kept."""
_Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_FLAGS = tuple(field.name for field in msgspec.structs.fields(Fields) if bool in get_args(field.type))
_BOUNDS: dict[str, Any] = {
    **dict.fromkeys(TEXTS, _Name),
    **dict.fromkeys(_FLAGS, bool),
    **dict.fromkeys(ANCESTOR_COMMANDS, _Command),
    "packed": _Packed,
}
BoundedFields: type[Fields] = msgspec.defstruct(  # type: ignore[assignment]
    "BoundedFields",
    [(name, _BOUNDS.get(name, _Number) | None, None) for name in _NAMES],
    bases=(Fields,),
    rename=_NAMES,
    gc=False,
)
"""Fields whose texts are neither empty nor too long and whose numbers fit 64 bits. The decoder checks it at no cost."""

_TYPES: dict[str, Any] = {name: str if name in TEXTS else bool if name in _FLAGS else _Number for name in _NAMES}
_LenientFields: type[Fields] = msgspec.defstruct(  # type: ignore[assignment]
    "_LenientFields",
    [(name, kind | None, None) for name, kind in _TYPES.items()],
    bases=(Fields,),
    rename=_NAMES,
    gc=False,
)
"""Fields whose texts may be of any length."""

MAX_EXACT_FLOAT = 2**53
"""Above it, a number with a decimal point or an exponent was rounded: as a start time it would name another process."""


class PartialFields(Fields, gc=False, eq=False, rename=_NAMES):
    """Fields of an alert some of which had a value of the wrong type, and were left out."""


class _KnownAlert(Struct, gc=False, rename={"host": "hostname"}):
    """What remains to be decoded of an alert whose rule, tags and time are known."""

    output_fields: BoundedFields  # type: ignore[valid-type]
    host: _Name = ""


_to_normalise = attrgetter("address", "packed", *(fallback for fallback, _ in FALLBACKS))
_NORMAL = (None,) * (2 + len(FALLBACKS))
_IP_ADDRESS = re.compile(r"[0-9a-f.:]+")
_PORT = re.compile(r"[0-9]{1,5}")

# An alert that ends with Falco's time: ..."time":"2026-11-24T03:07:40.535012431Z"}
_SECOND = slice(-32, -12)
_DECIMALS = slice(-12, -3)
_ZONE = -3
_Z = ord("Z")
_known_seconds: dict[bytes, int] = {}
_envelope = msgspec.json.Decoder(JsonEnvelope)
_tags = msgspec.json.Decoder(tuple[str, ...] | None)
_known = msgspec.json.Decoder(_KnownAlert, strict=False)
_bounded = msgspec.json.Decoder(BoundedFields, strict=False)
_lenient = msgspec.json.Decoder(_LenientFields, strict=False)
_raw = msgspec.json.Decoder(_RawFields)


def envelope(body: bytes) -> JsonEnvelope:
    """Decode the envelope of one JSON alert.

    Raises:
        AlertError: `not_json`, `text_mode`, `not_an_object`, `too_deep` or `wrong_type`.
        UnicodeDecodeError: it contains bytes that are not UTF-8; try again with `replace_bad_utf8`.
    """
    try:
        return _envelope.decode(body)
    except RecursionError:
        raise AlertError("too_deep") from None
    except msgspec.DecodeError as error:
        raise AlertError(_reason(body, error)) from None


def alert(body: bytes, rule: str, tags: tuple[str, ...]) -> Alert | None:
    """Decode in one pass an alert whose rule and tags are known, and that ends with Falco's time.

    None means that it needs the two stages: it has absent values, long texts, or mistakes.
    """
    second = _known_seconds.get(body[_SECOND]) or _second(body[_SECOND])
    decimals = body[_DECIMALS]
    if not second or not decimals.isdigit() or body[_ZONE] != _Z:
        return None
    if body.find(b"<") >= 0 and b'"<NA>"' in body:  # find first: `in` takes five times as long
        return None
    try:
        decoded = _known.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Alert(second + int(decimals), decoded.host, rule, tags, _normalised(decoded.output_fields))


def _second(text: bytes) -> int:
    """A time up to its decimals (`2026-11-24T03:07:40.`) in nanoseconds; 0 if it is malformed."""
    seconds = text[17:19]
    if text[-1:] != b"." or not seconds.isdigit() or seconds >= b"60":
        return 0
    try:
        minute = _seconds(text[:17].decode("ascii") + "00", "Z")
    except (ValueError, OverflowError):
        return 0
    second = (minute + int(seconds)) * 1_000_000_000
    if len(_known_seconds) >= CACHED_SECONDS:
        _known_seconds.clear()
    _known_seconds[text] = second
    return second


def replace_bad_utf8(body: bytes) -> bytes:
    """The alert with every byte that is not UTF-8 replaced, as Falco >= 0.44 does itself."""
    return body.decode("utf-8", "replace").encode()


def from_strings(strings: dict[str, str]) -> Fields:
    """The fields of an alert whose values are all text, as over gRPC: numbers are "12", absent is "<NA>" or "".

    A number that cannot be parsed is left out (`PartialFields`).
    """
    present = strings
    if not _ABSENT.isdisjoint(strings.values()):
        present = {key: value for key, value in strings.items() if value not in _ABSENT}
    try:
        return _normalised(msgspec.convert(present, BoundedFields, strict=False))
    except msgspec.ValidationError:
        pass
    try:
        return _normalised(_limit(msgspec.convert(present, _LenientFields, strict=False)))
    except msgspec.ValidationError:
        return _normalised(_limit(_partial(present)))


def _normalised(fields: Fields) -> Fields:
    """The same fields, in place, the absent ones filled in: from fallbacks, the packed field, a refused connection."""
    if _to_normalise(fields) == _NORMAL:  # nearly always; the rest would cost five times as much
        return fields
    apply_fallbacks(fields)
    if fields.packed is not None:
        ancestry.unpack(fields)
    if fields.remote_ip is None and fields.evt_type == "connect" and fields.address is not None:
        host, _, port = fields.address.rpartition(":")
        if _IP_ADDRESS.fullmatch(host) and _PORT.fullmatch(port):  # not a unix socket
            fields.remote_ip = host
            fields.remote_port = int(port)
    return fields


def apply_fallbacks(fields: Fields) -> None:
    """Move the values of fallback fields to the fields that they stand in for, in place.

    Decoding does it; a remembered alert needs it again after an upgrade in which Falco renamed a field.
    """
    for fallback, name in FALLBACKS:
        value = getattr(fields, fallback)
        setattr(fields, fallback, None)
        if getattr(fields, name) is None:
            setattr(fields, name, value)


def nanoseconds(stamp: str) -> int:
    """Parse RFC 3339 with any number of decimals to integer nanoseconds; datetime would truncate to microseconds.

    Raises:
        AlertError: `bad_time`.
    """
    try:
        if len(stamp) == 30 and stamp[19] == "." and stamp[20:29].isdecimal() and stamp[29] == "Z":  # Falco's own
            return _seconds(stamp[:19], "Z") * 1_000_000_000 + int(stamp[20:29])
        whole, _, rest = stamp.partition(".")
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        seconds = _seconds(whole, rest[len(digits) :])
    except (ValueError, OverflowError):
        raise AlertError("bad_time") from None
    return seconds * 1_000_000_000 + int(digits[:9].ljust(9, "0"))


@lru_cache(maxsize=CACHED_SECONDS)
def _seconds(stamp: str, zone: str) -> int:
    moment = datetime.fromisoformat(stamp + zone)
    seconds = int(moment.timestamp())
    if moment.tzinfo is None or seconds <= 0:
        raise ValueError(stamp, zone)
    return seconds


def _fields(raw: bytes) -> Fields:
    try:
        if b'"<NA>"' not in raw:
            with suppress(msgspec.ValidationError):
                return _normalised(_bounded.decode(raw))
        return _normalised(_present(raw))
    except RecursionError:
        raise AlertError("too_deep") from None
    except msgspec.ValidationError:
        raise AlertError("wrong_type") from None
    except msgspec.DecodeError:
        raise AlertError("not_json") from None


def _present(raw: bytes) -> Fields:
    """Decode fields some of which say that they are absent. Fields that are not ours are skipped, however large."""
    try:
        fields = _bounded.decode(raw)
    except msgspec.ValidationError:  # a number, perhaps, that is "" or "<NA>"; or a long text
        values = zip(_NAMES.values(), msgspec.structs.astuple(_raw.decode(raw)), strict=True)
        present = {name: value for name, value in values if bytes(value) not in _ABSENT_JSON}
        pairs = [b'"' + name.encode() + b'":' + bytes(value) for name, value in present.items()]
        try:
            return _limit(_lenient.decode(b"{" + b",".join(pairs) + b"}"))
        except msgspec.ValidationError:
            return _limit(_partial(present))
    for name in TEXTS:
        if getattr(fields, name) in _ABSENT:
            setattr(fields, name, None)
    return fields


def _partial(values: Mapping[str, Raw | str]) -> Fields:
    """The fields whose values, as JSON or text, have the right type; a whole number may have a decimal point."""
    fields = PartialFields()
    for attribute, name in _NAMES.items():
        value = values.get(name)
        if value is None:
            continue
        with suppress(msgspec.DecodeError):
            decoded = value if isinstance(value, str) else msgspec.json.decode(value)
            if not isinstance(decoded, float) or abs(decoded) < MAX_EXACT_FLOAT:
                setattr(fields, attribute, msgspec.convert(decoded, _TYPES[attribute], strict=False))
    return fields


def _limit(fields: Fields) -> Fields:
    """Every text at the greatest length that is looked through for secrets."""
    for name in TEXTS:
        text = getattr(fields, name)
        if text is not None:
            setattr(fields, name, text[: MAX_PACKED_CHARS if name == "packed" else MAX_RAW_CHARS])
    return fields


def _reason(body: bytes, error: msgspec.DecodeError) -> str:
    # json_output: false gives "03:07:40.535012431: Warning Sensitive file ..." or an ISO date in front.
    if body[:2].isdigit() and b": " in body[:64]:
        return "text_mode"
    if not isinstance(error, msgspec.ValidationError):
        return "not_json"
    return "wrong_type" if body.lstrip()[:1] == b"{" else "not_an_object"
