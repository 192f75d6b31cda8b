"""The gRPC server for tools that used Falco's: it serves incidents as Falco events, and in a format of their own.

`falco.outputs.service` is Falco's published interface with one difference: Falco shares one queue among all readers,
while every reader here gets every message. `sub` does not wait for further requests, so a client that sends one request
and listens works as well as one that polls. The server runs on the service's event loop, because a thread per reader
would cost more.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from sidecar._proto.correlator.v1 import incidents_pb2 as v1
from sidecar.alerts.classify import Verdict
from sidecar.model import GRPC_READER, RANK, Notification, Outgoing
from sidecar.net import addresses
from sidecar.sinks.grpc import listener, protobuf
from sidecar.sinks.grpc.subscribers import Subscriber, Subscribers

if TYPE_CHECKING:
    from sidecar.settings.sinks import GrpcSinkSettings

_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 64 * 1024),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

Context = grpc.aio.ServicerContext[bytes, bytes]


class GrpcServer:
    """Serves the messages of `subscribers`. `refused` counts rejected callers by reason."""

    def __init__(self, subscribers: Subscribers) -> None:
        self.refused: Counter[str] = Counter()
        self.port = 0
        self._subscribers = subscribers
        self._settings: GrpcSinkSettings = subscribers.settings
        self._server: Any = None

    async def start(self) -> None:
        """Start listening. Raises OSError if the address cannot be bound."""
        addresses.check(self._settings.address)
        max_calls = 2 * self._settings.max_subscribers
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=max_calls)
        falco = {
            "sub": grpc.stream_stream_rpc_method_handler(self._sub),
            "get": grpc.unary_stream_rpc_method_handler(self._get),
        }
        ours = {"Watch": grpc.unary_stream_rpc_method_handler(self._watch)}
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("falco.outputs.service", falco),
                grpc.method_handlers_generic_handler("correlator.v1.Incidents", ours),
            )
        )
        self.port = listener.listen(self._server, self._settings)
        await self._server.start()

    async def stop(self) -> None:
        """End every stream after what is queued for it; wait up to a second for that."""
        self._subscribers.close()
        if self._server is not None:
            await self._server.stop(1)

    def offer_json(self, verdict: Verdict, body: bytes) -> None:
        """Send a raw alert in JSON to the subscribers that asked for alerts."""
        self._offer(verdict, body, protobuf.response)

    def offer(self, verdict: Verdict, message: bytes) -> None:
        """Send a raw alert, as Falco's gRPC output sent it, to the subscribers that asked for alerts."""
        self._offer(verdict, message, protobuf.with_valid_text)

    def _offer(self, verdict: Verdict, data: bytes, encode: Callable[[bytes], bytes]) -> None:
        is_own = verdict.is_own_incident or (verdict.is_own_detection and self._settings.alerts == "others")
        if is_own or not self._subscribers.want_alerts:
            return
        try:
            self._subscribers.alert(encode(data))
        except ValueError:
            self._subscribers.counts["alert", "unreadable"] += 1

    async def _sub(self, requests: AsyncIterator[bytes], context: Context) -> None:
        await self._admit(context)
        reader = Subscriber(_as_falco_event, room=self._settings.queue_size, alerts=self._settings.alerts != "none")
        drain = asyncio.create_task(_discard(requests))
        try:
            await self._serve(reader, context)
        finally:
            drain.cancel()

    async def _get(self, _request: bytes, context: Context) -> None:
        await self._admit(context)
        for out in self._subscribers.history():
            await context.write(_as_falco_event(out))
            self._subscribers.counts["incident", "sent"] += 1

    async def _watch(self, request: bytes, context: Context) -> None:
        await self._admit(context)
        try:
            wanted = v1.WatchRequest.FromString(request)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a correlator.v1.WatchRequest")

        def encode(out: Outgoing) -> bytes | None:
            note = out.message
            if not isinstance(note, Notification) or RANK[note.severity] < wanted.at_least:
                return None
            return protobuf.step(out.key, note)

        await self._serve(Subscriber(encode, room=self._settings.queue_size, alerts=False), context, wanted.after)

    async def _serve(self, reader: Subscriber, context: Context, after: str = "") -> None:
        with self._subscribers.joined(reader, after):
            async for kind, data in reader:
                await context.write(data)
                self._subscribers.counts[kind, "sent"] += 1

    async def _admit(self, context: Context) -> None:
        """Refuse a caller without permission, one of our own readers, and one beyond the maximum."""
        allowed = self._settings.tls.allowed_names
        if allowed and _names(context).isdisjoint(allowed):
            await self._refuse(context, "name", "this certificate's name is not in sinks.grpc.tls.allowed_names")
        if _is_correlator(context):
            await self._refuse(
                context, "loop", "a Falco Correlator cannot read from a Falco Correlator; connect it to Falco"
            )
        if len(self._subscribers) >= self._settings.max_subscribers:
            await self._refuse(
                context, "full", "the maximum number of subscribers (sinks.grpc.max_subscribers) is connected"
            )

    async def _refuse(self, context: Context, reason: str, message: str) -> None:
        self.refused[reason] += 1
        code = grpc.StatusCode
        codes = {"name": code.PERMISSION_DENIED, "loop": code.FAILED_PRECONDITION, "full": code.RESOURCE_EXHAUSTED}
        await context.abort(codes[reason], message)


def _as_falco_event(out: Outgoing) -> bytes:
    return protobuf.response(out.body)


async def _discard(requests: AsyncIterator[bytes]) -> None:
    """Read and ignore the requests of a client that polls: otherwise its flow control window fills, and it hangs."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        async for _ in requests:
            pass


def _names(context: Context) -> set[str]:
    facts = context.auth_context()
    values = [*facts.get("x509_common_name", ()), *facts.get("x509_subject_alternative_name", ())]
    return {value.decode("utf-8", "replace") for value in values}


def _is_correlator(context: Context) -> bool:
    return any(
        name == "user-agent" and GRPC_READER in str(value) for name, value in context.invocation_metadata() or ()
    )
