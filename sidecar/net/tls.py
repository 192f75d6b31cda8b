"""TLS on a listening port: certificates that are reloaded when their files change, and which clients are allowed.

Each new handshake uses the newest certificates, and open connections keep theirs, so a rotation loses nothing. A
connection is counted before its handshake; otherwise handshakes that never end would escape the limits.
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
        """The newest valid context; an invalid or half written certificate is logged and not loaded."""
        try:
            newest = stamp(self._files)
            if newest != self._stamp:
                self._context = self._read()
                self._stamp = newest
                log.info("certificates were reloaded")
        except OSError as error:
            log.warning("the new certificates cannot be used, keeping the old ones", extra={"error": str(error)})
        return self._context

    def _read(self) -> "ssl.SSLContext":
        return server_context(*self._files)


class TlsHandshake(asyncio.Protocol):
    """The protocol of a new connection until its handshake is done; the `inner` protocol takes over then."""

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
        self._slot: Slot
        self._early = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a stream protocol is given
        self._slot = self._connections.admit(transport)
        self._task = asyncio.get_running_loop().create_task(self._handshake(transport, self._slot))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Remove a connection that ended during its handshake."""
        self._connections.leave(self._slot)

    def data_received(self, data: bytes) -> None:
        """Keep what follows the handshake until the client's certificate is checked."""
        self._early += data

    async def _handshake(self, transport: asyncio.Transport, slot: Slot) -> None:
        try:
            secure = await asyncio.get_running_loop().start_tls(
                transport,
                self,
                self._certificates.current(),
                server_side=True,
                ssl_handshake_timeout=self._timeout,
                ssl_shutdown_timeout=self._timeout,
            )
        except (OSError, RuntimeError):  # asyncio raises either for a peer that hung up or was evicted
            secure = None
        if secure is None or transport.is_closing():
            self._refuse(transport, slot, "tls")
        elif not self._is_allowed(secure.get_extra_info("peercert")):
            self._refuse(transport, slot, "403")
        else:
            self._hand_over(secure, slot)

    def _hand_over(self, secure: asyncio.Transport, slot: Slot) -> None:
        inner = self._inner()
        secure.set_protocol(inner)
        inner.welcome(secure, slot)
        if self._early:
            inner.data_received(self._early)

    def _refuse(self, transport: asyncio.Transport, slot: Slot, reason: str) -> None:
        self._connections.refuse(reason)
        self._connections.leave(slot)
        transport.abort()

    def _is_allowed(self, certificate: Any) -> bool:
        return not self._allowed or not self._allowed.isdisjoint(names(certificate or {}))


def names(certificate: dict[str, Any]) -> set[str]:
    """The common name of a client's certificate, and the names it holds besides (DNS, URI, email)."""
    common = {value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"}
    return common | {value for kind, value in certificate.get("subjectAltName", ()) if kind != "IP Address"}
