"""TLS on a listening port: certificates that are reloaded when their files change, and which clients are allowed.

Each new handshake uses the newest certificates; open connections stay as they are, so a rotation loses nothing. TLS
begins behind the limits on connections, or else handshakes that never end would not count.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sidecar.net.admission import Connections, Slot
from sidecar.net.http_server import ServerProtocol
from sidecar.net.tls_context import server_context, stamp

if TYPE_CHECKING:
    import ssl

log = logging.getLogger(__name__)


class Certificates:
    """The TLS context for new handshakes. Raises OSError (ssl.SSLError is one) if there never was a good one."""

    def __init__(self, cert: str, key: str, client_ca: str) -> None:
        self._files = (cert, key, client_ca)
        self._stamp = stamp(self._files)
        self._context = self._read()

    def current(self) -> "ssl.SSLContext":
        """The newest valid context; a certificate that is half written or wrong is not loaded, and logged."""
        try:
            newest = stamp(self._files)
            if newest != self._stamp:
                self._context = self._read()
                self._stamp = newest
                log.info("certificates were reloaded")
        except OSError as error:
            log.warning("new certificates cannot be used, the old ones stay", extra={"error": str(error)})
        return self._context

    def _read(self) -> "ssl.SSLContext":
        return server_context(*self._files)


class TlsDoor(asyncio.Protocol):
    """Stands at a new connection until TLS is agreed upon, then hands it to the `inner` protocol."""

    def __init__(
        self,
        inner: Callable[[], ServerProtocol],
        certificates: Certificates,
        connections: Connections,
        *,
        allowed: Sequence[str],
        timeout: float,
    ) -> None:
        self._inner = inner
        self._certificates = certificates
        self._connections = connections
        self._allowed = frozenset(allowed)
        self._timeout = timeout
        self._place: Slot
        self._early = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a stream protocol is given
        self._place = self._connections.admit(transport)
        self._task = asyncio.get_running_loop().create_task(self._agree(transport, self._place))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Ended before it was let in."""
        self._connections.leave(self._place)

    def data_received(self, data: bytes) -> None:
        """What came right behind the handshake waits until it is clear who sent it."""
        self._early += data

    async def _agree(self, transport: asyncio.Transport, place: Slot) -> None:
        try:
            secure = await asyncio.get_running_loop().start_tls(
                transport,
                self,
                self._certificates.current(),
                server_side=True,
                ssl_handshake_timeout=self._timeout,
                ssl_shutdown_timeout=self._timeout,
            )
        except (OSError, RuntimeError):  # asyncio tells a peer that hung up, or was pushed out, in both ways
            secure = None
        if secure is None or transport.is_closing():
            self._refused(transport, place, "tls")
        elif not self._is_allowed(secure.get_extra_info("peercert")):
            self._refused(transport, place, "403")
        else:
            self._let_in(secure, place)

    def _let_in(self, secure: asyncio.Transport, place: Slot) -> None:
        inner = self._inner()
        secure.set_protocol(inner)
        inner.welcome(secure, place)
        if self._early:
            inner.data_received(self._early)

    def _refused(self, transport: asyncio.Transport, place: Slot, why: str) -> None:
        self._connections.refuse(why)
        self._connections.leave(place)
        transport.abort()

    def _is_allowed(self, certificate: Any) -> bool:
        return not self._allowed or not self._allowed.isdisjoint(names(certificate or {}))


def names(certificate: dict[str, Any]) -> set[str]:
    """The common name of a client's certificate, and the names it holds besides (DNS, URI, email)."""
    common = {value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"}
    return common | {value for kind, value in certificate.get("subjectAltName", ()) if kind != "IP Address"}
