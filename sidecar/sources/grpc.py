"""Alerts over Falco's gRPC output, which Falco had up to 0.43.

Falco keeps one queue for all its readers and sends only when asked. `get` drains what is there and ends with OK, so it
is asked again and again: soon while there are alerts, seldom while there are none. `get` rather than `sub`, because
grpcio reads a unary stream on the calling thread (a third of the CPU), and because ending the requests of a `sub`
makes Falco hang. Messages are parsed here, not by grpcio: one bad message must not end the stream.
"""

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
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
from sidecar.model import GRPC_READER, MAX_NAME_CHARS, Alert, Message
from sidecar.settings.sources import GrpcSource

log = logging.getLogger(__name__)

BATCH = 256
"""Alerts handed over at once."""

KINDS, LONGEST_TAGS = 1024, 1024
"""Rules whose output fields and tags are remembered, and bytes of tags that are."""

LAST_SECOND = 253_402_300_799
"""The last that a protobuf Timestamp can tell: the year 9999 ends."""

_sent_by: dict[tuple[str, int], tuple[str, ...]] = {}
_INTERNAL = 2
_OPTIONS = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),
    ("grpc.primary_user_agent", GRPC_READER),
)


class GrpcEnvelope:
    """One `falco.outputs.response`: everything in it is text, absent is "<NA>" or ""."""

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
            return _decoded(raw) if sum(map(len, raw)) <= LONGEST_TAGS else tuple(tag.decode() for tag in raw)
        except UnicodeDecodeError:
            return tuple(map(self._text, raw))

    @property
    def time(self) -> int:
        time = self._response.time
        seconds, nanos = time.seconds, time.nanos
        valid = 0 < seconds <= LAST_SECOND and 0 <= nanos < 1_000_000_000
        return seconds * 1_000_000_000 + nanos if valid else 0

    def anomalies(self) -> Sequence[str]:
        known = 0 <= self._response.priority <= 7
        if known and not self._replaced:
            return ()
        return [*([] if known else ["unknown_priority"]), *(["bad_utf8"] if self._replaced else [])]

    def check(self) -> None:
        """Raise AlertError: `no_rule`, `internal`, `no_output_fields`."""
        if not self.rule:
            raise AlertError("no_rule")
        if self._response.source == b"internal" or self._response.source_deprecated == _INTERNAL:
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
        """Our output fields. A rule brings the same ones each time, so they are looked for only once."""
        sent = self._response.output_fields
        kind = (self.rule, len(sent))
        keys = _sent_by.get(kind, ())
        values = [sent[key] for key in keys]  # b"" where it is not sent, which Falco never sends
        if not keys or b"" in values:
            keys = tuple(key for key in KEYS if key in sent)
            values = [sent[key] for key in keys]
            if len(_sent_by) >= KINDS:
                _sent_by.clear()
            if len(self.rule) <= MAX_NAME_CHARS:
                _sent_by[kind] = keys
        try:
            texts = [value.decode() for value in values]
        except UnicodeDecodeError:
            texts = [self._text(value) for value in values]
        return dict(zip(keys, texts, strict=True))

    def _text(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            self._replaced = True
            return data.decode("utf-8", "replace")


@lru_cache(maxsize=KINDS)
def _decoded(tags: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(tag.decode() for tag in tags)


class GrpcPoller:
    """Reads one Falco from a thread of its own and gives batches of messages to `take`, which may block."""

    def __init__(self, settings: GrpcSource, take: Callable[[list[bytes]], None]) -> None:
        self.connected = False
        self._settings = settings
        self._take = take
        self._stopping = threading.Event()
        self._channel: grpc.Channel | None = None
        self._thread = threading.Thread(target=self._run, name="grpc source", daemon=True)

    def start(self) -> None:
        """Begin to read; a Falco that is not there yet is waited for."""
        self._thread.start()

    def stop(self) -> None:
        """Cancel the call that is under way and end."""
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
            before_sleep=self._lost,
            reraise=False,
        )
        while not self._stopping.is_set():
            try:
                retrying(self._poll)
            except tenacity.RetryError:
                return

    def _poll(self) -> None:
        """Ask until the connection breaks."""
        with _channel(self._settings) as self._channel:
            get = self._channel.unary_stream(
                "/falco.outputs.service/get", request_serializer=_as_it_is, response_deserializer=_as_it_is
            )
            pause = self._settings.min_poll_interval.seconds
            while not self._stopping.wait(pause):
                got = self._drain(get)
                self.connected = True
                longer = min(pause * 2, self._settings.max_poll_interval.seconds)
                pause = self._settings.min_poll_interval.seconds if got else longer

    def _drain(self, get: "grpc.UnaryStreamMultiCallable[bytes, bytes]") -> int:
        batch: list[bytes] = []
        got = 0
        for message in get(b""):
            got += 1
            batch.append(message)
            if len(batch) == BATCH:
                self._take(batch)
                batch = []
        if batch:
            self._take(batch)
        return got

    def _lost(self, state: tenacity.RetryCallState) -> None:
        self.connected = False
        error = state.outcome.exception() if state.outcome else None
        told = getattr(error, "details", lambda: str(error))()
        log.warning("no connection to Falco, trying again", extra={"address": self._settings.address, "error": told})


def _channel(settings: GrpcSource) -> grpc.Channel:
    if settings.address.startswith("unix:"):
        return grpc.insecure_channel(settings.address, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        Path(settings.ca).read_bytes(), Path(settings.key).read_bytes(), Path(settings.cert).read_bytes()
    )
    return grpc.secure_channel(settings.address, credentials, options=_OPTIONS)


def _as_it_is(data: bytes) -> bytes:
    return data


def take(
    pipeline: Pipeline, messages: Sequence[bytes], seen: Callable[[Verdict, bytes], None] | None = None
) -> list[Message]:
    """Feed the messages of one poll; what is wrong with one is counted and does not touch the others."""
    due: list[Message] = []
    for message in messages:
        try:
            verdict, messages_due = pipeline.process(GrpcEnvelope(message))
            due += messages_due
            if seen is not None:
                seen(verdict, message)
        except AlertError as error:
            pipeline.reject(error.reason)
        except Exception:  # a bug must cost one alert, not the stream
            log.exception("an alert could not be correlated")
            pipeline.reject("broken")
    return due
