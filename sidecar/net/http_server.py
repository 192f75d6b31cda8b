"""An HTTP/1.1 server for Falco's http_output, on asyncio with llhttp (httptools) as the parser.

A framework costs more CPU per alert than the rest of this service (measured: 15 us for a bare uvicorn, 8 us for this
server, of which 7 us are the kernel's), and Falco needs little: keep-alive, one response in one write, an early 100 for
large bodies. Everything that a peer can make long, numerous or slow has a limit here, since all connections share one
thread. When a connection repeats its request header with another body, as Falco's does, the header is not parsed again
(`head_cache.py`).
"""

import asyncio
from collections.abc import Callable
from typing import Literal, NamedTuple

import httptools

from sidecar.net.admission import Connections, Slot
from sidecar.net.head_cache import Head

MAX_HEAD_BYTES = 16 * 1024
"""Of a request's head, counted in the chunks that arrive."""

MAX_HEADER_LINES = 100

MAX_BODY_CHUNKS = 16_384
"""Chunks of one body: Falco sends one, and a network cuts 4 MiB into 3,000."""

MAX_PIPELINED = 32
"""Requests in one chunk; Falco waits for each response."""


class Request(NamedTuple):
    """One complete request. `body` is b"" if there is none, `host` and `cookie` are headers, `local`: from loopback."""

    method: str
    path: str
    body: bytes
    host: str = ""
    local: bool = False
    cookie: str = ""


class Response(NamedTuple):
    """Status with the reason phrase, body, and further header lines, each ending in CRLF."""

    status: str
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"
    headers: str = ""


OK = Response("200 OK")
OK_BYTES = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

Handler = Callable[[Request], Response]
"""Answers a request at once, without waiting for anything."""

RepeatHandler = Callable[[bytes], float]
"""Handles the body of a request with the same head as an earlier one that the handler answered with OK.

The response is OK again. Returns the time at which it was done, by the clock of the connections.
"""

Gate = Callable[[str], str]
"""Decides by the path, before the body is read, whether a request is valid: "" or the status that refuses it."""


class Limits(NamedTuple):
    """What one server allows: bytes of a body, seconds for the header of a request, and then for its body.

    With `refuse_browsers` a request that a web page sent (it has an `Origin`) is answered with 403.
    """

    body: int
    header_timeout: float
    body_timeout: float
    refuse_browsers: bool = False


class ServerProtocol(asyncio.Protocol):
    """One connection of a server. Responses to pipelined requests are sent in order, in one write."""

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        connections: Connections,
        gate: Gate = lambda _: "",
        repeat_handler: RepeatHandler | None = None,
    ) -> None:
        self._handler = handler
        self._repeat_handler = repeat_handler
        self._cached_head: Head | None = None
        self._gate = gate
        self._limits = limits
        self._max_body = limits.body
        self._connections = connections
        self._slot: Slot
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._deadline: asyncio.TimerHandle | None = None
        self._responses: list[bytes] = []
        self._refusal = ""
        self._phase: Literal["idle", "head", "body"] = "idle"
        self._deadline_phase = ""
        self._url = b""
        self._host = b""
        self._cookie = b""
        self._body: bytes | bytearray = b""
        self._head_bytes = 0
        self._header_lines = 0
        self._body_chunks = 0
        self._wants_continue = False
        self._is_repeatable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a stream protocol is given
        self.welcome(transport, self._connections.admit(transport))

    def welcome(self, transport: asyncio.Transport, slot: Slot) -> None:
        """Start on a transport that was admitted already."""
        self._transport = transport
        self._slot = slot
        self._set_deadline("head")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._connections.leave(self._slot)
        del self._parser  # it holds our methods: a cycle, and cycles are collected seldom
        self._cancel_deadline()

    def pause_writing(self) -> None:
        """The peer does not read its responses: stop reading from it."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Handle what a peer sent.

        A head is cached only while the parser is between two requests, and only from a request that arrived whole.
        """
        head = self._cached_head
        handle = self._repeat_handler
        body = head.body(data) if head is not None else None
        if body is None or handle is None or len(body) > self._max_body:
            self._parse(data)
            return
        if self._connections.promote(self._slot, handle(body)):
            self._transport.write(OK_BYTES)
        else:
            self._cached_head = None
            self._transport.write(_encoded(OK, close=True))
            self._transport.close()

    def _parse(self, data: bytes) -> None:
        is_between_requests = self._phase == "idle" and not self._head_bytes
        self._cached_head = None
        if self._phase != "body":
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refusal = self._refusal or "400 Bad Request"
        if self._phase == "head" and self._head_bytes > MAX_HEAD_BYTES:
            self._refusal = self._refusal or "431 Request Header Fields Too Large"
        self._send_responses()
        if self._refusal:
            self._refuse(self._refusal)
        elif self._phase not in ("idle", self._deadline_phase):
            self._set_deadline(self._phase)
        elif is_between_requests and self._is_repeatable:
            self._cached_head = Head.parse(data, bytes(self._body))

    # Callbacks of httptools, in the order in which it calls them.

    def on_message_begin(self) -> None:
        self._phase = "head"
        self._url = self._body = self._host = self._cookie = b""
        self._header_lines = self._body_chunks = 0
        self._wants_continue = self._is_repeatable = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_lines += 1
        name = name.lower()
        if self._header_lines > MAX_HEADER_LINES:
            self._stop("431 Request Header Fields Too Large")
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            self._refusal = "415 Unsupported Media Type"
        elif name == b"content-length" and value.isdigit() and int(value[:20]) > self._limits.body:
            self._refusal = "413 Content Too Large"
        elif name == b"expect" and value.lower() == b"100-continue":
            self._wants_continue = True
        elif name == b"origin" and self._limits.refuse_browsers:
            self._refusal = "403 Forbidden"
        elif name == b"host":
            self._host = value
        elif name == b"cookie":
            self._cookie = value

    def on_headers_complete(self) -> None:
        self._refusal = self._refusal or self._gate(self._url.decode("latin-1"))
        if self._refusal:
            raise _Stop
        self._phase = "body"
        if self._wants_continue:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body_chunks += 1
        if len(self._body) + len(data) > self._limits.body or self._body_chunks > MAX_BODY_CHUNKS:
            self._stop("413 Content Too Large")
        if self._body_chunks == 1:
            self._body = data
        elif not self._connections.hold(self._slot, len(self._body) + len(data)):
            self._stop("503 Service Unavailable")
        elif isinstance(self._body, bytearray):
            self._body += data
        else:
            self._body = bytearray(self._body + data)

    def on_message_complete(self) -> None:
        if len(self._responses) >= MAX_PIPELINED or self._parser.should_upgrade() or self._transport.is_closing():
            self._stop("400 Bad Request")
        self._cancel_deadline()
        self._phase = "idle"
        self._head_bytes = 0
        method = self._parser.get_method().decode("ascii")
        host, cookie = self._host.decode("latin-1"), self._cookie.decode("latin-1")
        request = Request(method, self._url.decode("latin-1"), bytes(self._body), host, self._slot.local, cookie)
        response = self._handler(request)
        stays = self._connections.promote(self._slot, self._connections.clock())
        self._responses.append(_encoded(response, head=method == "HEAD", close=not stays))
        if not (stays and self._parser.should_keep_alive()):
            self._send_responses()
            self._transport.close()
        else:
            self._is_repeatable = response is OK and not self._wants_continue

    def _send_responses(self) -> None:
        if self._responses:
            self._transport.write(b"".join(self._responses))
            self._responses.clear()

    def _stop(self, status: str) -> None:
        self._refusal = status
        raise _Stop

    def _refuse(self, status: str) -> None:
        self._cancel_deadline()
        if self._transport.is_closing():
            return
        self._connections.refuse(status[:3])
        self._transport.write(_encoded(Response(status, status.encode()), close=True))
        self._transport.close()

    def _set_deadline(self, phase: str) -> None:
        self._cancel_deadline()
        self._deadline_phase = phase
        seconds = self._limits.header_timeout if phase == "head" else self._limits.body_timeout
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._refuse, "408 Request Timeout")

    def _cancel_deadline(self) -> None:
        self._deadline_phase = ""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Stop(Exception):  # noqa: N818 - never leaves this module
    """Stops the parser; `_refusal` has the reason."""


def _encoded(response: Response, *, head: bool = False, close: bool = False) -> bytes:
    if response is OK and not close:
        return OK_BYTES
    connection = "Connection: close\r\n" if close else ""
    top = (
        f"HTTP/1.1 {response.status}\r\nContent-Type: {response.kind}\r\n"
        f"Content-Length: {len(response.body)}\r\n{response.headers}{connection}\r\n"
    )
    return top.encode() + (b"" if head else response.body)
