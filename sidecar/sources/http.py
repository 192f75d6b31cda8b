"""Alerts over Falco's http_output: one POST each, over one kept connection.

Falco waits for the answer before it sends anything else to any output, and takes every answer for success: so the
answer to an alert is always 200, in one write, as soon as the alert has changed the state in memory, and before any
sink is touched. What is refused never was an alert: it is counted by status, and changes nothing.
"""

import asyncio
import socket
from collections.abc import Callable
from time import monotonic

from sidecar.alerts.decode import MAX_BYTES
from sidecar.net.admission import BACKLOG, Connections
from sidecar.net.http_server import OK, Limits, Request, Response, ServerProtocol
from sidecar.net.latency import Latency
from sidecar.net.secret_path import SecretPath, read_secret_path
from sidecar.net.tls import Certificates, TlsDoor
from sidecar.settings.sources import HttpSource

NOT_ALLOWED = Response("405 Method Not Allowed", b"POST Falco's alerts here (falco.yaml: http_output.url)\n")


class HttpListener:
    """The listening side. Without a secret path every path is taken, as Falcosidekick does.

    Raises OSError if the file of the secret path cannot be read.
    """

    def __init__(self, settings: HttpSource, take: Callable[[bytes], None]) -> None:
        self.connections = Connections(settings.max_connections, settings.max_connections_per_client, monotonic)
        self.latency = Latency()
        self._settings = settings
        self._take = take
        self._gate = SecretPath(
            read_secret_path(settings.secret_path_file) if settings.secret_path_file else settings.secret_path
        )
        self._limits = Limits(
            MAX_BYTES, settings.header_timeout.seconds, settings.body_timeout.seconds, refuse_browsers=True
        )
        self._server: asyncio.Server | None = None
        self._known_strangers = 0

    @property
    def degraded(self) -> str:
        """A sentence if senders were refused and no alert has come since, as when Falco's url has the wrong path."""
        strangers = self.connections.strangers - self._known_strangers
        if not strangers:
            return ""
        return f"{strangers} senders were refused since the last alert: does Falco have the right path or certificate?"

    async def start(self, listening: socket.socket) -> int:
        """Take alerts from a socket that listens; returns its port. Raises OSError if a certificate cannot be read."""
        loop = asyncio.get_running_loop()
        make = self._make_secure() if self._settings.tls.cert else self._make
        self._server = await loop.create_server(make, sock=listening, backlog=BACKLOG)
        port: int = listening.getsockname()[1]
        return port

    async def stop(self) -> None:
        """Stop accepting alerts."""
        if self._server is not None:
            self._server.close()

    def _make(self) -> ServerProtocol:
        return ServerProtocol(self._answer, self._limits, self.connections, self._gate, self._alert)

    def _make_secure(self) -> Callable[[], TlsDoor]:
        tls = self._settings.tls
        certificates = Certificates(tls.cert, tls.key, tls.client_ca)
        return lambda: TlsDoor(
            self._make,
            certificates,
            self.connections,
            allowed=tls.allowed_names,
            timeout=self._limits.header_timeout,
        )

    def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            return NOT_ALLOWED
        self._alert(request.body)
        return OK

    def _alert(self, body: bytes) -> float:
        self._known_strangers = self.connections.strangers
        began = monotonic()
        self._take(body)
        done = monotonic()
        self.latency.add(done - began)
        return done
