"""Alerts over Falco's http_output: one POST each, over one persistent connection.

Falco waits for the response before it sends anything else to any output, and treats every response as success. So the
response to an alert is always 200, in one write, as soon as the alert has changed the state in memory and before any
sink is used. Requests that are refused are not alerts: they are counted by status and change nothing.
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
from sidecar.net.tls import Certificates, TlsHandshake
from sidecar.settings.sources import HttpSourceSettings

NOT_ALLOWED = Response("405 Method Not Allowed", b"POST Falco's alerts here (falco.yaml: http_output.url)\n")


class HttpListener:
    """Listens for alerts. Without a secret path it accepts every path, as Falcosidekick does.

    Raises OSError if the file of the secret path cannot be read.
    """

    def __init__(self, settings: HttpSourceSettings, on_alert: Callable[[bytes], None]) -> None:
        self.connections = Connections(settings.max_connections, settings.max_connections_per_client, monotonic)
        self.latency = Latency()
        self._settings = settings
        self._on_alert = on_alert
        self._gate = SecretPath(
            read_secret_path(settings.secret_path_file) if settings.secret_path_file else settings.secret_path
        )
        self._limits = Limits(
            MAX_BYTES, settings.header_timeout.seconds, settings.body_timeout.seconds, refuse_browsers=True
        )
        self._server: asyncio.Server | None = None
        self._unauthorized_before = 0

    @property
    def degraded(self) -> str:
        """A sentence if senders were refused and no alert has arrived since, as when Falco's url has the wrong path."""
        refused = self.connections.unauthorized - self._unauthorized_before
        if not refused:
            return ""
        return f"{refused} senders were refused since the last alert: does Falco have the right path or certificate?"

    async def start(self, listening: socket.socket) -> int:
        """Accept alerts on a listening socket; returns its port. Raises OSError if a certificate cannot be read."""
        loop = asyncio.get_running_loop()
        make_protocol = self._make_secure() if self._settings.tls.cert else self._make
        self._server = await loop.create_server(make_protocol, sock=listening, backlog=BACKLOG)
        port: int = listening.getsockname()[1]
        return port

    async def stop(self) -> None:
        """Stop accepting alerts."""
        if self._server is not None:
            self._server.close()

    def _make(self) -> ServerProtocol:
        return ServerProtocol(self._answer, self._limits, self.connections, self._gate, self._alert)

    def _make_secure(self) -> Callable[[], TlsHandshake]:
        tls = self._settings.tls
        certificates = Certificates(tls.cert, tls.key, tls.client_ca)
        return lambda: TlsHandshake(
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
        self._unauthorized_before = self.connections.unauthorized
        started = monotonic()
        self._on_alert(body)
        finished = monotonic()
        self.latency.add(finished - started)
        return finished
