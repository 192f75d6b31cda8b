"""HTTP/1.1 as Falco speaks it, the serving side, on asyncio with llhttp (httptools) as the parser.

A framework costs more CPU per alert than everything else here together (measured: 15 us for a bare uvicorn, 8 for
this, and 7 for a loop of epoll, recv and send in C: the kernel's part); and what Falco needs is little: keep-alive, one
answer in one write, an early 100 for large bodies. Everything that a peer can make long, many or slow has a limit here,
since all connections share one thread. Where a connection repeats its request with another body, as Falco's does, the
head is not parsed again (`head_cache.py`).
"""

import asyncio
from collections.abc import Callable
from typing import Literal, NamedTuple

import httptools

from sidecar.net.admission import Connections, Slot
from sidecar.net.head_cache import Head

HEAD_BYTES, HEADERS = 16 * 1024, 100
"""The head of a request: bytes (counted by what arrives at once), and header lines."""

PARTS = 16_384
"""Pieces of a body; Falco sends one, a network cuts 4 MiB into 3,000."""

PIPELINED = 32
"""Requests in what arrives at once; Falco waits for each answer."""


class Request(NamedTuple):
    """One complete request. `body` is b"" where there was none; `host` is the header, `local` a peer on loopback."""

    method: str
    path: str
    body: bytes
    host: str = ""
    local: bool = False


class Response(NamedTuple):
    """Status with the reason phrase, the body, and more header lines (each with its line end)."""

    status: str
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"
    headers: str = ""


OK = Response("200 OK")
OK_BYTES = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

Handler = Callable[[Request], Response]
"""Answers a request at once, without waiting for anything."""

Again = Callable[[bytes], float]
"""Takes the body of a request whose head is that of one before, to which the handler's answer was OK, as it is now.

Says when it had taken it, by the clock of the connections.
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
    """One connection of a server. Pipelined requests are answered in order, together."""

    def __init__(
        self,
        handler: Handler,
        limits: Limits,
        connections: Connections,
        gate: Gate = lambda _: "",
        again: Again | None = None,
    ) -> None:
        self._handler = handler
        self._again = again
        self._known: Head | None = None
        self._gate = gate
        self._limits = limits
        self._most = limits.body
        self._connections = connections
        self._place: Slot
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._deadline: asyncio.TimerHandle | None = None
        self._answers: list[bytes] = []
        self._refusal = ""
        self._phase: Literal["idle", "head", "body"] = "idle"
        self._waiting_for = ""
        self._url = self._host = b""
        self._body: bytes | bytearray = b""
        self._head = self._headers = self._parts = 0
        self._continue = self._repeatable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a stream protocol is given
        self.welcome(transport, self._connections.admit(transport))

    def welcome(self, transport: asyncio.Transport, place: Slot) -> None:
        """Begin on a transport whose place was had already."""
        self._transport = transport
        self._place = place
        self._wait("head")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._connections.leave(self._place)
        del self._parser  # it holds our methods: a cycle, and cycles are collected seldom
        self._cancel_deadline()

    def pause_writing(self) -> None:
        """The peer does not read its responses: stop reading from it."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """All that a peer sends comes through here.

        A head is known only while the parser stands between two requests, having just met it in one that came whole.
        """
        known, again = self._known, self._again
        body = known.body(data) if known is not None else None
        if body is None or again is None or len(body) > self._most:
            self._parse(data)
            return
        if self._connections.prove(self._place, again(body)):
            self._transport.write(OK_BYTES)
        else:
            self._known = None
            self._transport.write(_encoded(OK, close=True))
            self._transport.close()

    def _parse(self, data: bytes) -> None:
        between, self._known = self._phase == "idle" and not self._head, None
        if self._phase != "body":
            self._head += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refusal = self._refusal or "400 Bad Request"
        if self._phase == "head" and self._head > HEAD_BYTES:
            self._refusal = self._refusal or "431 Request Header Fields Too Large"
        self._send_answers()
        if self._refusal:
            self._refuse(self._refusal)
        elif self._phase not in ("idle", self._waiting_for):
            self._wait(self._phase)
        elif between and self._repeatable:
            self._known = Head.of(data, bytes(self._body))

    # What httptools calls while it parses.

    def on_message_begin(self) -> None:
        self._phase = "head"
        self._url = self._body = self._host = b""
        self._headers = self._parts = 0
        self._continue = self._repeatable = False

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        name = name.lower()
        if self._headers > HEADERS:
            self._stop("431 Request Header Fields Too Large")
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            self._refusal = "415 Unsupported Media Type"
        elif name == b"content-length" and value.isdigit() and int(value[:20]) > self._limits.body:
            self._refusal = "413 Content Too Large"
        elif name == b"expect" and value.lower() == b"100-continue":
            self._continue = True
        elif name == b"origin" and self._limits.refuse_browsers:
            self._refusal = "403 Forbidden"
        elif name == b"host":
            self._host = value

    def on_headers_complete(self) -> None:
        self._refusal = self._refusal or self._gate(self._url.decode("latin-1"))
        if self._refusal:
            raise _Stop
        self._phase = "body"
        if self._continue:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._parts += 1
        if len(self._body) + len(data) > self._limits.body or self._parts > PARTS:
            self._stop("413 Content Too Large")
        if self._parts == 1:
            self._body = data
        elif not self._connections.hold(self._place, len(self._body) + len(data)):
            self._stop("503 Service Unavailable")
        elif isinstance(self._body, bytearray):
            self._body += data
        else:
            self._body = bytearray(self._body + data)

    def on_message_complete(self) -> None:
        if len(self._answers) >= PIPELINED or self._parser.should_upgrade() or self._transport.is_closing():
            self._stop("400 Bad Request")
        self._cancel_deadline()
        self._phase, self._head = "idle", 0
        method = self._parser.get_method().decode("ascii")
        host = self._host.decode("latin-1")
        answer = self._handler(Request(method, self._url.decode("latin-1"), bytes(self._body), host, self._place.local))
        stays = self._connections.prove(self._place, self._connections.clock())
        self._answers.append(_encoded(answer, head=method == "HEAD", close=not stays))
        if not (stays and self._parser.should_keep_alive()):
            self._send_answers()
            self._transport.close()
        else:
            self._repeatable = answer is OK and not self._continue

    def _send_answers(self) -> None:
        if self._answers:
            self._transport.write(b"".join(self._answers))
            self._answers.clear()

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

    def _wait(self, phase: str) -> None:
        self._cancel_deadline()
        self._waiting_for = phase
        seconds = self._limits.header_timeout if phase == "head" else self._limits.body_timeout
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._refuse, "408 Request Timeout")

    def _cancel_deadline(self) -> None:
        self._waiting_for = ""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Stop(Exception):  # noqa: N818 - never leaves this module
    """Stops the parser; the reason is kept beside it."""


def _encoded(response: Response, *, head: bool = False, close: bool = False) -> bytes:
    if response is OK and not close:
        return OK_BYTES
    connection = "Connection: close\r\n" if close else ""
    top = (
        f"HTTP/1.1 {response.status}\r\nContent-Type: {response.kind}\r\n"
        f"Content-Length: {len(response.body)}\r\n{response.headers}{connection}\r\n"
    )
    return top.encode() + (b"" if head else response.body)
