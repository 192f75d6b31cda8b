"""Falco's gRPC output as it behaves: one queue for all readers, `get` drains and ends, `sub` sends when asked."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import msgspec

from sidecar._proto.falco import outputs_pb2

PRIORITIES = ("emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug")


def response(alert: dict[str, Any]) -> bytes:
    """One JSON alert as Falco's gRPC output sends it: every field a text, `evt.time` left out."""
    message = outputs_pb2.response(
        priority=PRIORITIES.index(alert["priority"].lower()),
        rule=alert["rule"].encode(),
        output=alert.get("output", "").encode(),
        hostname=alert["hostname"].encode(),
        tags=[tag.encode() for tag in alert.get("tags") or []],
        source=(alert.get("source") or "").encode(),
    )
    message.time.FromJsonString(alert["time"])
    for name, value in alert["output_fields"].items():
        if not name.startswith("evt.time"):
            message.output_fields[name] = _text(value)
    return message.SerializeToString()


def responses(lines: Sequence[bytes]) -> list[bytes]:
    return [response(msgspec.json.decode(line)) for line in lines]


def _text(value: object) -> bytes:
    if value is None:
        return b"<NA>"
    if isinstance(value, bool):
        return b"true" if value else b"false"
    return str(value).encode()


class FakeFalco:
    """`queue` holds serialized responses; `asked` counts calls of `get`."""

    def __init__(self) -> None:
        self.queue: deque[bytes] = deque()
        self.asked = 0

    def drain(self) -> Iterator[bytes]:
        while self.queue:
            yield self.queue.popleft()

    def get(self, _request: bytes, _context: grpc.ServicerContext) -> Iterator[bytes]:
        self.asked += 1
        yield from self.drain()

    def sub(self, requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        for _ in requests:
            yield from self.drain()


@contextmanager
def running(address: str, falco: FakeFalco, credentials: grpc.ServerCredentials | None = None) -> Iterator[int]:
    """Serve on `address`; gives the port (for a network address)."""
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {
        "get": grpc.unary_stream_rpc_method_handler(falco.get),
        "sub": grpc.stream_stream_rpc_method_handler(falco.sub),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("falco.outputs.service", handlers),))
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()
