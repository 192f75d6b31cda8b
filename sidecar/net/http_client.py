"""An HTTP/1.1 client for Falcosidekick and webhooks: one persistent connection, one request at a time, no redirects.

It uses the parser of the server (httptools); a client library would cost more memory than the rest of the service.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httptools

from sidecar.net.tls_context import ClientFiles, Stamp, client_context, stamp

if TYPE_CHECKING:
    import ssl

MAX_RETRY_AFTER_SECONDS = 300.0
"""A receiver cannot make us wait longer."""


NO_FILES = ClientFiles()

Outcome = int | Exception
"""The status of a response, or why there is none."""


class Client:
    """Posts to one URL over one persistent connection, one request at a time. Redirects are not followed.

    Raises OSError (also for a time-out, and for a response that is not HTTP) from `post`; the connection is then closed
    and the next post opens a new one.
    """

    def __init__(
        self, url: str, *, timeout: float, headers: dict[str, str] | None = None, tls: ClientFiles = NO_FILES
    ) -> None:
        parts = urlsplit(url)
        self._tls = _Tls(tls) if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._timeout = timeout
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self._head = (
            f"POST {target} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"
            f"User-Agent: falco-correlator\r\nContent-Type: application/json\r\n{extra}"
        ).encode()
        self._connection: _ClientProtocol | None = None
        self.retry_after = 0.0
        """Seconds that the last response asked to wait (`Retry-After`), MAX_RETRY_AFTER_SECONDS at most; 0 if none."""

    async def post(self, body: bytes, headers: str = "") -> int:
        """Send one body; `headers` are further header lines, each ending in CRLF. Returns the status code."""
        connection = self._connection
        try:
            if connection is None or connection.closed:
                connection = self._connection = await self._connect()
            status = await connection.exchange(self._request(body, headers))
        except BaseException:
            self.close()
            raise
        self.retry_after = _seconds(connection.retry_after)
        return status

    def send(self, body: bytes, done: Callable[[Outcome], None]) -> bool:
        """Send one body at once if the connection is open and free; `done` is then called with the outcome.

        Returns whether it was sent. It takes no task and no turn of the event loop, which are half of the cost of
        `post`.
        """
        connection = self._connection
        if connection is None or connection.closed or connection.is_busy:
            return False
        connection.send(self._request(body), partial(self._done, connection, done))
        return True

    def _done(self, connection: "_ClientProtocol", done: Callable[[Outcome], None], outcome: Outcome) -> None:
        if isinstance(outcome, Exception):
            self.close()
        else:
            self.retry_after = _seconds(connection.retry_after)
        done(outcome)

    def _request(self, body: bytes, headers: str = "") -> bytes:
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (self._head, headers.encode(), len(body), body)

    def close(self) -> None:
        """Drop the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _connect(self) -> "_ClientProtocol":
        loop = asyncio.get_running_loop()
        tls = self._tls.current() if self._tls is not None else None
        async with asyncio.timeout(self._timeout):
            _, protocol = await loop.create_connection(
                lambda: _ClientProtocol(loop, self._timeout), self._host, self._port, ssl=tls
            )
        return protocol


def _seconds(value: bytes) -> float:
    """The whole seconds of a `Retry-After`; 0 for a date, which receivers of alerts do not send, and for nonsense."""
    return min(float(value), MAX_RETRY_AFTER_SECONDS) if value.isdigit() and len(value) < 10 else 0.0


class _Tls:
    """The TLS context of new connections, built again when one of its files has changed."""

    def __init__(self, files: ClientFiles) -> None:
        self._files = files
        self._stamp: Stamp = ()
        self._context: ssl.SSLContext | None = None

    def current(self) -> "ssl.SSLContext":
        """Raises OSError while a file is missing or invalid: the next attempt reads it again."""
        newest = stamp(self._files)
        if self._context is None or newest != self._stamp:
            self._context, self._stamp = client_context(self._files), newest
        return self._context


class _ClientProtocol(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self._loop = loop
        self._timeout = timeout
        self._parser = httptools.HttpResponseParser(self)
        self._done: Callable[[Outcome], None] | None = None
        self._status = 0
        self._shown = 0
        """The status of a response whose head has arrived: it stands, whatever becomes of the body."""
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.closed = False
        self.retry_after = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a stream protocol is given
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._finish(self._shown or exc or ConnectionResetError("the connection was closed before a response arrived"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        del self._parser  # it holds our methods: a cycle, and cycles are collected seldom

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._status = 0
            self._finish(ConnectionError("the response is not HTTP"))
            self.close()
            return
        if self._status:  # after the whole chunk, so that nothing else in it answers the next request
            status, self._status = self._status, 0
            self._finish(status)

    def on_message_begin(self) -> None:
        self.retry_after = b""

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._shown = status if status >= 200 else 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self.retry_after = value

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive() and status >= 200:
            self.close()
        if status >= 200 and not self._status:
            self._status = status

    async def exchange(self, request: bytes) -> int:
        """Send a request and wait for the status; raises TimeoutError when it takes too long."""
        answered: asyncio.Future[int] = self._loop.create_future()
        self.send(request, partial(_settle, answered))
        return await answered

    @property
    def is_busy(self) -> bool:
        """Whether a response is awaited."""
        return self._done is not None

    def send(self, request: bytes, done: Callable[[Outcome], None]) -> None:
        """Send a request; `done` is called with its outcome. One at a time."""
        self._done = done
        self._shown = 0
        self._due = self._loop.time() + self._timeout
        if self._timer is None:  # one timer for many requests
            self._timer = self._loop.call_at(self._due, self._check_timeout)
        self._transport.write(request)

    def _check_timeout(self) -> None:
        self._timer = None
        if self._done is None:
            return
        if self._loop.time() >= self._due:
            outcome = self._shown or TimeoutError("no response in time")
            self.close()  # what still comes would be taken for the answer to the next request
            self._finish(outcome)
        else:
            self._timer = self._loop.call_at(self._due, self._check_timeout)

    def close(self) -> None:
        self.closed = True
        self._transport.abort()

    def _finish(self, outcome: Outcome) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(outcome)


def _settle(answered: asyncio.Future[int], outcome: Outcome) -> None:
    if answered.done():
        return
    if isinstance(outcome, Exception):
        answered.set_exception(outcome)
    else:
        answered.set_result(outcome)
