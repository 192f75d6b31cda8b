"""Alerts over Falco's http_output: one POST each, over one kept connection.

Falco waits for the answer before it sends anything else to any output, and takes every answer for success: so the
answer is always 200 (400 only for what is not HTTP), in one write, as soon as the alert has changed the state in
memory, and before any sink is touched.
"""

import asyncio
import socket
from collections.abc import Callable

from sidecar.decode import MAX_BYTES
from sidecar.http_server import OK, Limits, Request, Response, ServerProtocol, ServerStats
from sidecar.settings import HttpSource

NOT_ALLOWED = Response("405 Method Not Allowed", b"POST Falco's alerts here (falco.yaml: http_output.url)\n")


class HttpListener:
    """The listening side; every path is taken, as Falcosidekick does."""

    def __init__(self, settings: HttpSource, take: Callable[[bytes], None]) -> None:
        self.stats = ServerStats()
        self._take = take
        self._limits = Limits(MAX_BYTES, settings.max_connections, settings.deadline.seconds)
        self._server: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> int:
        """Take alerts from a socket that listens; returns its port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ServerProtocol(self._answer, self._limits, self.stats), sock=listening
        )
        port: int = listening.getsockname()[1]
        return port

    async def stop(self) -> None:
        """Take no more alerts."""
        if self._server is not None:
            self._server.close()

    def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            return NOT_ALLOWED
        self._take(request.body)
        return OK
