"""HTTP/1.1 as Falco speaks it, the serving side, on asyncio with llhttp (httptools) as the parser.

A framework costs more CPU per alert than everything else here together (measured: 48 us for a bare uvicorn, 20 for
this); and what Falco needs is little: keep-alive, one answer in one write, an early 100 for large bodies.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import httptools


class Request(NamedTuple):
    """One complete request. `body` is b"" where there was none."""

    method: str
    path: str
    body: bytes


class Response(NamedTuple):
    """Status with the reason phrase, and the body."""

    status: str
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"


OK = Response("200 OK")

Handler = Callable[[Request], Response]
"""Answers a request at once, without waiting for anything."""


class Limits(NamedTuple):
    """What one server grants: bytes of a body, connections, and seconds for a request that has begun."""

    body: int
    connections: int
    deadline: float


class ServerStats:
    """Counters that a server keeps; `refused` is by status."""

    def __init__(self) -> None:
        self.connections = 0
        self.refused: dict[str, int] = {}


class ServerProtocol(asyncio.Protocol):
    """One connection of a server. Pipelined requests are answered in order, together."""

    def __init__(self, handler: Handler, limits: Limits, stats: ServerStats) -> None:
        self._handler = handler
        self._limits = limits
        self._stats = stats
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._deadline: asyncio.TimerHandle | None = None
        self._answers: list[bytes] = []
        self._refusal = ""
        self._begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a stream protocol is given
        self._transport = transport
        self._stats.connections += 1
        if self._stats.connections > self._limits.connections:
            self._refuse("503 Service Unavailable")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._stats.connections -= 1
        self._cancel_deadline()

    def data_received(self, data: bytes) -> None:
        if self._deadline is None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(self._limits.deadline, self._refuse, "408 Request Timeout")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refusal = "400 Bad Request"
        except httptools.HttpParserError:
            self._refusal = self._refusal or "400 Bad Request"
        if self._answers:
            self._transport.write(b"".join(self._answers))
            self._answers.clear()
        if self._refusal:
            self._refuse(self._refusal)

    # What httptools calls while it parses.

    def on_message_begin(self) -> None:
        self._begin()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            self._refusal = "415 Unsupported Media Type"
        elif name == b"content-length" and value.isdigit() and int(value[:20]) > self._limits.body:
            self._refusal = "413 Content Too Large"
        elif name == b"expect" and value.lower() == b"100-continue":
            self._continue = True

    def on_headers_complete(self) -> None:
        if self._refusal:
            raise _Refusal
        if self._continue:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limits.body:
            self._refusal = "413 Content Too Large"
            raise _Refusal
        self._body.append(data)

    def on_message_complete(self) -> None:
        self._cancel_deadline()
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        method = self._parser.get_method().decode("ascii")
        answer = self._handler(Request(method, self._url.decode("latin-1"), body))
        self._answers.append(_encoded(answer, head=method == "HEAD"))
        if not self._parser.should_keep_alive():
            self._transport.write(b"".join(self._answers))
            self._answers.clear()
            self._transport.close()

    def _begin(self) -> None:
        self._url = b""
        self._body: list[bytes] = []
        self._size = 0
        self._continue = False

    def _refuse(self, status: str) -> None:
        self._cancel_deadline()
        if self._transport.is_closing():
            return
        self._stats.refused[status[:3]] = self._stats.refused.get(status[:3], 0) + 1
        self._transport.write(_encoded(Response(status, status.encode()), close=True))
        self._transport.close()

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Refusal(Exception):  # noqa: N818 - never leaves this module
    """Stops the parser; the reason is kept beside it."""


def _encoded(response: Response, *, head: bool = False, close: bool = False) -> bytes:
    if response is OK:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    connection = "Connection: close\r\n" if close else ""
    top = (
        f"HTTP/1.1 {response.status}\r\nContent-Type: {response.kind}\r\n"
        f"Content-Length: {len(response.body)}\r\n{connection}\r\n"
    )
    return top.encode() + (b"" if head else response.body)
