"""The administration port: is it alive, is it ready, what has it counted, which incidents are there.

It takes no alerts, and changes nothing.
"""

import asyncio
import socket
import time
from collections.abc import Callable

from sidecar.net.admission import Connections
from sidecar.net.http_server import Limits, Request, Response, ServerProtocol

NOT_FOUND = Response("404 Not Found", b"try /, /healthz, /readyz or /metrics\n")
NOT_ALLOWED = Response("405 Method Not Allowed", b"only GET and HEAD\n", headers="Allow: GET, HEAD\r\n")
METRICS = "text/plain; version=0.0.4; charset=utf-8"


class AdminListener:
    """Serves `healthz`, `readyz` (a sentence, "" when all is well), `metrics`, and `pages` for every other path."""

    def __init__(
        self,
        *,
        not_ready: Callable[[], str],
        metrics: Callable[[], bytes],
        pages: Callable[[Request], Response | None],
    ) -> None:
        self._not_ready = not_ready
        self._metrics = metrics
        self._pages = pages
        self._connections = Connections(32, 8, time.monotonic)
        self._server: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> int:
        """Serve on a socket that listens; returns its port."""
        limits = Limits(body=4096, header_timeout=5.0, body_timeout=5.0)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ServerProtocol(self._answer, limits, self._connections), sock=listening
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Close the port, and the connections that browsers keep open."""
        if self._server is not None:
            self._server.close()
            self._connections.end()
            await asyncio.sleep(0)  # in which they are closed

    def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return NOT_ALLOWED
        path = request.path.partition("?")[0]
        if path == "/healthz":
            return Response("200 OK", b"ok\n")
        if path == "/readyz":
            reason = self._not_ready()
            return (
                Response("503 Service Unavailable", f"{reason}\n".encode()) if reason else Response("200 OK", b"ok\n")
            )
        if path == "/metrics":
            return Response("200 OK", self._metrics(), METRICS)
        return self._pages(request) or NOT_FOUND
