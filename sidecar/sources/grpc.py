"""Alerts over Falco's gRPC output, which Falco had up to 0.43.

Falco keeps one queue for all its readers and sends only on request. `get` drains the queue and ends with OK, so it is
called repeatedly: often while there are alerts, rarely while there are none. It is `get` rather than `sub` because
grpcio reads a unary stream on the calling thread (a third of the CPU), and because closing the requests of a `sub`
makes Falco hang. Messages are parsed here, not by grpcio, so that one bad message does not end the stream.
"""

import logging
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import grpc
import grpc.experimental
import tenacity
from google.protobuf.message import DecodeError

from sidecar._proto.falco import outputs_pb2
from sidecar.alerts.classify import Verdict
from sidecar.alerts.decode import KEYS, from_strings
from sidecar.correlation.pipeline import Pipeline
from sidecar.errors import AlertError
from sidecar.model import GRPC_INTERNAL_SOURCE, GRPC_READER, MAX_NAME_CHARS, Alert, Message
from sidecar.settings.sources import GrpcSourceSettings

log = logging.getLogger(__name__)

BATCH_ALERTS = 256
"""Alerts handed over at once."""

MAX_CACHED = 1024
"""Rules whose field names, and lists of tags whose texts, are cached."""

MAX_CACHED_TAG_BYTES = 1024
"""Of one list of tags in the cache."""

MAX_CACHED_NAME_CHARS = 1024
"""Of the names in one alert that are not of our fields."""

MAX_SECONDS = 253_402_300_799
"""The largest value of a protobuf Timestamp: the end of the year 9999."""

_OPTIONS = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),
    ("grpc.primary_user_agent", GRPC_READER),
)


class GrpcEnvelope:
    """One `falco.outputs.response`. All its values are texts; an absent one is "<NA>" or ""."""

    __slots__ = ("_replaced", "_response", "_tags", "host", "label", "rule")

    def __init__(self, message: bytes) -> None:
        try:
            response = self._response = outputs_pb2.response.FromString(message)
        except DecodeError:
            raise AlertError("not_json") from None
        self._replaced = False
        self._tags = tuple(response.tags)
        self.rule = self._text(response.rule)
        self.host = self._text(response.hostname)
        self.label: Hashable = self.rule, self._tags

    @property
    def tags(self) -> tuple[str, ...]:
        raw = self._tags
        try:
            return _decoded(raw) if sum(map(len, raw)) <= MAX_CACHED_TAG_BYTES else tuple(tag.decode() for tag in raw)
        except UnicodeDecodeError:
            return tuple(map(self._text, raw))

    @property
    def time(self) -> int:
        """Of the kernel event, in nanoseconds; 0 if it is not valid."""
        seconds = self._response.time.seconds
        nanos = self._response.time.nanos
        valid = 0 < seconds <= MAX_SECONDS and 0 <= nanos < 1_000_000_000
        return seconds * 1_000_000_000 + nanos if valid else 0

    def anomalies(self) -> Sequence[str]:
        """Keys of ANOMALIES."""
        has_priority = 0 <= self._response.priority <= 7
        if has_priority and not self._replaced:
            return ()
        return [*([] if has_priority else ["unknown_priority"]), *(["bad_utf8"] if self._replaced else [])]

    def check(self) -> None:
        """Raise AlertError: `no_rule`, `internal`, `no_output_fields`."""
        if not self.rule:
            raise AlertError("no_rule")
        if self._response.source == b"internal" or self._response.source_deprecated == GRPC_INTERNAL_SOURCE:
            raise AlertError("internal")
        if not self._response.output_fields:
            raise AlertError("no_output_fields")

    def alert(self) -> Alert:
        """The alert in normal form; raises AlertError (`wrong_type`, `bad_time`)."""
        time = self.time
        if time <= 0:
            raise AlertError("bad_time")
        return Alert(time, self.host, self.rule, self.tags, from_strings(self._strings()))

    def _strings(self) -> dict[str, str]:
        """The output fields that we use, by name."""
        fields = self._response.output_fields
        layout = self.rule, len(fields)
        ours, others = _names_by_layout.get(layout) or _learn_names(layout, fields)
        for name in others:
            if name not in fields:  # `in` first: fields[name] inserts a name that is missing
                ours, others = _learn_names(layout, fields)
                break
        names = ours
        values = [fields[name] for name in names]
        if b"" in values:  # of a name that was missing, as Falco itself never sends b""
            _names_by_layout.pop(layout, None)
            names = tuple(name for name in KEYS if fields.get(name))
            values = [fields[name] for name in names]
        try:
            texts = [value.decode() for value in values]
        except UnicodeDecodeError:
            texts = [self._text(value) for value in values]
        return dict(zip(names, texts, strict=True))

    def _text(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            self._replaced = True
            return data.decode("utf-8", "replace")


_Names = tuple[tuple[str, ...], tuple[str, ...]]
"""The names of our fields in an alert, and the names of its other fields."""

_names_by_layout: dict[tuple[str, int], _Names] = {}
"""By rule and number of fields. An alert with so many fields that has all of the names has no others."""


def _learn_names(layout: tuple[str, int], fields: Mapping[str, bytes]) -> _Names:
    ours = tuple(name for name in KEYS if name in fields)
    names = ours, tuple(name for name in fields if name not in KEYS)
    if len(_names_by_layout) >= MAX_CACHED:
        _names_by_layout.clear()
    if len(layout[0]) <= MAX_NAME_CHARS and sum(map(len, names[1])) <= MAX_CACHED_NAME_CHARS:
        _names_by_layout[layout] = names
    return names


@lru_cache(maxsize=MAX_CACHED)
def _decoded(tags: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(tag.decode() for tag in tags)


class GrpcPoller:
    """Reads from one Falco in a thread of its own and passes batches of messages to `on_batch`, which may block."""

    def __init__(self, settings: GrpcSourceSettings, on_batch: Callable[[list[bytes]], None]) -> None:
        self.connected = False
        self._settings = settings
        self._on_batch = on_batch
        self._stopping = threading.Event()
        self._channel: grpc.Channel | None = None
        self._thread = threading.Thread(target=self._run, name="grpc source", daemon=True)

    def start(self) -> None:
        """Start reading; if Falco is not running yet, retry until it is."""
        self._thread.start()

    def stop(self) -> None:
        """Cancel the current call and end the thread."""
        self._stopping.set()
        if self._channel is not None:
            self._channel.close()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((grpc.RpcError, OSError, ValueError)),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
            stop=tenacity.stop_when_event_set(self._stopping),
            sleep=tenacity.sleep_using_event(self._stopping),
            before_sleep=self._note_failure,
            reraise=False,
        )
        while not self._stopping.is_set():
            try:
                retrying(self._poll)
            except tenacity.RetryError:
                return

    def _poll(self) -> None:
        """Poll until the connection breaks."""
        with _channel(self._settings) as self._channel:
            get = self._channel.unary_stream(
                "/falco.outputs.service/get", request_serializer=_unchanged, response_deserializer=_unchanged
            )
            pause = self._settings.min_poll_interval.seconds
            while not self._stopping.wait(pause):
                count = self._drain(get)
                self.connected = True
                longer = min(pause * 2, self._settings.max_poll_interval.seconds)
                pause = self._settings.min_poll_interval.seconds if count else longer

    def _drain(self, get: "grpc.UnaryStreamMultiCallable[bytes, bytes]") -> int:
        """Hand over everything that Falco has queued; returns the number of alerts."""
        batch: list[bytes] = []
        count = 0
        for message in get(b""):
            count += 1
            batch.append(message)
            if len(batch) == BATCH_ALERTS:
                self._on_batch(batch)
                batch = []
        if batch:
            self._on_batch(batch)
        return count

    def _note_failure(self, state: tenacity.RetryCallState) -> None:
        self.connected = False
        error = state.outcome.exception() if state.outcome else None
        details = getattr(error, "details", lambda: str(error))()
        log.warning("no connection to Falco, trying again", extra={"address": self._settings.address, "error": details})


def _channel(settings: GrpcSourceSettings) -> grpc.Channel:
    if settings.address.startswith("unix:"):
        return grpc.insecure_channel(settings.address, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        Path(settings.ca).read_bytes(), Path(settings.key).read_bytes(), Path(settings.cert).read_bytes()
    )
    return grpc.secure_channel(settings.address, credentials, options=_OPTIONS)


def _unchanged(data: bytes) -> bytes:
    return data


def take(
    pipeline: Pipeline, messages: Sequence[bytes], observer: Callable[[Verdict, bytes], None] | None = None
) -> list[Message]:
    """Process the messages of one poll; returns what is due. An error in one is counted and leaves the others alone."""
    due: list[Message] = []
    for message in messages:
        try:
            verdict, messages_due = pipeline.process(GrpcEnvelope(message))
            due += messages_due
            if observer is not None:
                observer(verdict, message)
        except AlertError as error:
            pipeline.reject(error.reason)
        except Exception:  # a bug must cost one alert, not the stream
            log.exception("an alert could not be correlated")
            pipeline.reject("broken")
    return due
