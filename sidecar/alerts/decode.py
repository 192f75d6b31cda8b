"""Bytes that Falco sent become an alert in normal form, or an AlertError with the reason.

Two stages, since nineteen of twenty alerts are nobody's evidence: the envelope (rule, tags, time) is decoded first, the
output fields, kept as raw bytes until then, only for those that a correlation rule names. An alert whose rule and tags
are known (`sidecar.alerts.verdict_cache`) needs one. Texts leave here bounded, but long enough for `truncate` to
recognise a secret that its cut would go through.
"""

import re
from collections.abc import Hashable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any, Protocol, get_args

import msgspec
from msgspec import Meta, Raw, Struct

from sidecar.errors import AlertError
from sidecar.model import FALCO_PRIORITIES, FALLBACKS, LONGEST_NAME, Alert, Fields

MAX_BYTES = 4 * 1024 * 1024
"""Falco cuts arguments at 4 KiB, so a real alert stays far below this."""

LONGEST_LABEL = 2048
"""Bytes of tags as they came, blanks and all, that may stand for them."""

SECONDS = 64
"""That are remembered: alerts come many a second."""

MAX_RAW_CHARS = 4352
"""Characters of a text before secrets are masked: the 4,096 of Falco's arguments and the program's name before them."""

_ABSENT = frozenset(("", "<NA>"))
_ABSENT_JSON = (b'""', b'"<NA>"', b"null")
_EMPTY = (b"", b"{}", b"null")


class Envelope(Protocol):
    """The outside of an alert, whichever transport brought it: enough to know whether anybody cares."""

    @property
    def rule(self) -> str: ...
    @property
    def tags(self) -> tuple[str, ...]: ...
    @property
    def host(self) -> str: ...
    @property
    def time(self) -> int:
        """Nanoseconds, 0 if it has none that can be read."""

    @property
    def label(self) -> Hashable:
        """What stands for rule and tags: alerts of one label mean the same."""

    def oddities(self) -> Sequence[str]:
        """Reasons to count although the alert is used: `unknown_priority`, `bad_utf8`, `returned`."""

    def check(self) -> None:
        """Raise AlertError if this can be nobody's evidence: `internal`, `no_rule`, `no_output_fields`."""

    def alert(self) -> Alert:
        """The whole alert in normal form; raises AlertError (`wrong_type`, `bad_time`, ...)."""


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
        return self.rule, raw if len(raw) <= LONGEST_LABEL else self.tags

    @property
    def tags(self) -> tuple[str, ...]:
        try:
            return _tags.decode(self.falco_tags) or ()
        except msgspec.DecodeError:
            raise AlertError("wrong_type") from None

    def oddities(self) -> Sequence[str]:
        if self.uuid is None and self.priority in FALCO_PRIORITIES:
            return ()
        known = self.priority.capitalize() in FALCO_PRIORITIES
        # Falco itself gives no uuid: a Falcosidekick had it before us.
        return [*([] if known else ["unknown_priority"]), *(["via_falcosidekick"] if self.uuid is not None else [])]

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
"""Those of our fields that hold text."""

KEYS = frozenset(_NAMES.values())
"""Falco's names of the output fields that are used."""

_Undecoded = msgspec.defstruct("_Undecoded", [(name, Raw, Raw(b"null")) for name in _NAMES], rename=_NAMES, gc=False)
_Name = Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]
_Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Short: type[Fields] = msgspec.defstruct(  # type: ignore[assignment]
    "_Short",
    [(name, (_Name if name in TEXTS else _Number) | None, None) for name in _NAMES],
    bases=(Fields,),
    rename=_NAMES,
    gc=False,
)
"""Fields whose texts are neither empty nor too long, and numbers no larger than the kernel's; the decoder looks at that
at no cost."""


class _Alert(Struct, gc=False, rename={"host": "hostname"}):
    """What is left to read of an alert whose rule, tags and time are known."""

    output_fields: _Short  # type: ignore[valid-type]
    host: _Name = ""


_unsettled = attrgetter("address", *(fallback for fallback, _ in FALLBACKS))
_SETTLED = (None,) * (1 + len(FALLBACKS))
_IP_ADDRESS = re.compile(r"[0-9a-f.:]+")
_PORT = re.compile(r"[0-9]{1,5}")

_Z = ord("Z")
_known_seconds: dict[bytes, int] = {}
_envelope = msgspec.json.Decoder(JsonEnvelope)
_tags = msgspec.json.Decoder(tuple[str, ...] | None)
_alert = msgspec.json.Decoder(_Alert, strict=False)
_short = msgspec.json.Decoder(_Short, strict=False)
_long = msgspec.json.Decoder(Fields, strict=False)
_undecoded = msgspec.json.Decoder(_Undecoded)


def envelope(body: bytes) -> JsonEnvelope:
    """Decode the outside of one JSON alert.

    Raises:
        AlertError: `not_json`, `text_mode`, `not_an_object`, `too_deep` or `wrong_type`.
        UnicodeDecodeError: some text in it is not UTF-8; mend it with `mended` and try again.
    """
    try:
        return _envelope.decode(body)
    except RecursionError:
        raise AlertError("too_deep") from None
    except msgspec.DecodeError as error:
        raise AlertError(_reason(body, error)) from None


def alert(body: bytes, rule: str, tags: tuple[str, ...]) -> Alert | None:
    """Decode in one pass an alert whose rule and tags are known, and that ends with Falco's time.

    None means that it must be looked at more closely: it holds absent values, long texts, or mistakes.
    """
    second, decimals = _known_seconds.get(body[-32:-12]) or _second(body[-32:-12]), body[-12:-3]
    if not second or not decimals.isdigit() or body[-3] != _Z:
        return None
    if body.find(b"<") >= 0 and b'"<NA>"' in body:  # `in` takes five times as long
        return None
    try:
        found = _alert.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Alert(second + int(decimals), found.host, rule, tags, _settled(found.output_fields))


def _second(text: bytes) -> int:
    """The second that a time begins with (`2026-11-24T03:07:40.`) in nanoseconds, 0 if that is none."""
    if not text.endswith(b"."):
        return 0
    try:
        second = nanoseconds(text.decode("ascii") + "000000000Z")
    except (AlertError, UnicodeDecodeError):
        return 0
    if len(_known_seconds) >= SECONDS:
        _known_seconds.clear()
    _known_seconds[text] = second
    return second


def mended(body: bytes) -> bytes:
    """The same alert with every byte that is not UTF-8 replaced, as Falco >= 0.44 does it itself."""
    return body.decode("utf-8", "replace").encode()


def from_strings(strings: dict[str, str]) -> Fields:
    """Our fields of an alert that came as text only (gRPC: numbers are "12", absent is "<NA>" or "")."""
    present = strings
    if not _ABSENT.isdisjoint(strings.values()):
        present = {key: value for key, value in strings.items() if value not in _ABSENT}
    try:
        return _settled(msgspec.convert(present, _Short, strict=False))
    except msgspec.ValidationError:
        pass
    try:
        return _settled(_cut(msgspec.convert(present, Fields, strict=False)))
    except msgspec.ValidationError:
        raise AlertError("wrong_type") from None


def _settled(fields: Fields) -> Fields:
    """The same fields, in place: fallbacks used, and the far end of a refused connection filled in."""
    if _unsettled(fields) == _SETTLED:  # nearly always; the rest would cost five times as much
        return fields
    for fallback, name in FALLBACKS:
        value = getattr(fields, fallback)
        setattr(fields, fallback, None)
        if getattr(fields, name) is None:
            setattr(fields, name, value)
    if fields.remote_ip is None and fields.evt_type == "connect" and fields.address is not None:
        host, _, port = fields.address.rpartition(":")
        if _IP_ADDRESS.fullmatch(host) and _PORT.fullmatch(port):  # no unix socket
            fields.remote_ip = host
            fields.remote_port = int(port)
    return fields


def nanoseconds(stamp: str) -> int:
    """RFC 3339 with any number of decimals to integer nanoseconds; datetime alone would cut them at microseconds."""
    try:
        if len(stamp) == 30 and stamp[19] == "." and stamp[20:29].isdecimal() and stamp[29] == "Z":  # Falco's own
            return _seconds(stamp[:19], "Z") * 1_000_000_000 + int(stamp[20:29])
        whole, _, rest = stamp.partition(".")
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        seconds = _seconds(whole, rest[len(digits) :])
    except (ValueError, OverflowError):
        raise AlertError("bad_time") from None
    return seconds * 1_000_000_000 + int(digits[:9].ljust(9, "0"))


@lru_cache(maxsize=SECONDS)
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
                return _settled(_short.decode(raw))
        return _settled(_present(raw))
    except RecursionError:
        raise AlertError("too_deep") from None
    except msgspec.ValidationError:
        raise AlertError("wrong_type") from None
    except msgspec.DecodeError:
        raise AlertError("not_json") from None


def _present(raw: bytes) -> Fields:
    """Decode fields of which some are there but absent. What nobody uses is skipped, however large, and never built."""
    try:
        fields = _short.decode(raw)
    except msgspec.ValidationError:  # a number, perhaps, that is "" or "<NA>"; or a long text
        given = msgspec.structs.astuple(_undecoded.decode(raw))
        pairs = [
            b'"' + name.encode() + b'":' + value
            for name, value in zip(_NAMES.values(), map(bytes, given), strict=True)
            if value not in _ABSENT_JSON
        ]
        return _cut(_long.decode(b"{" + b",".join(pairs) + b"}"))
    for name in TEXTS:
        if getattr(fields, name) in _ABSENT:
            setattr(fields, name, None)
    return fields


def _cut(fields: Fields) -> Fields:
    """Every text at the greatest length that is looked through for secrets.

    Raises AlertError (`wrong_type`) for a number that no process has.
    """
    if any(isinstance(each, int) and each.bit_length() > 63 for each in msgspec.structs.astuple(fields)):
        raise AlertError("wrong_type")
    for name in TEXTS:
        text = getattr(fields, name)
        if text is not None:
            setattr(fields, name, text[:MAX_RAW_CHARS])
    return fields


def _reason(body: bytes, error: msgspec.DecodeError) -> str:
    # json_output: false gives "03:07:40.535012431: Warning Sensitive file ..." or an ISO date in front.
    if body[:2].isdigit() and b": " in body[:64]:
        return "text_mode"
    if not isinstance(error, msgspec.ValidationError):
        return "not_json"
    return "wrong_type" if body.lstrip()[:1] == b"{" else "not_an_object"
