"""What the gRPC server listens with: the mode of its socket, or certificates both ways that may change."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from sidecar.net.addresses import socket_path
from sidecar.net.tls_context import server_context, stamp

if TYPE_CHECKING:
    from sidecar.settings.sinks import GrpcSink
    from sidecar.settings.tls import ServerTls

log = logging.getLogger(__name__)

MODES = {"owner": 0o600, "group": 0o660, "all": 0o666}


def bound(server: Any, settings: "GrpcSink") -> int:
    """Listen on the address; returns the port."""
    try:
        if settings.tls.cert:
            return int(server.add_secure_port(settings.address, _Certificates(settings.tls).credentials()))
        old = os.umask(0o177)  # nobody else connects before the mode is set
        try:
            port = int(server.add_insecure_port(settings.address))
        finally:
            os.umask(old)
    except RuntimeError as error:
        raise OSError(f"{settings.address}: {error}") from None
    if settings.address.startswith("unix:"):
        socket_path(settings.address).chmod(MODES[settings.socket_mode])
    return port


class _Certificates:
    """The certificate files, reloaded for each handshake after they changed; a wrong one is not loaded."""

    def __init__(self, tls: "ServerTls") -> None:
        self._tls = tls
        self._files = (tls.cert, tls.key, tls.client_ca)
        self._stamp = stamp(self._files)

    def credentials(self) -> grpc.ServerCredentials:
        """What the server listens with: clients need a certificate of the authority."""
        return grpc.dynamic_ssl_server_credentials(
            self._read(),
            self._fresh,  # type: ignore[arg-type]  # None says that nothing changed
            require_client_authentication=True,
        )

    def _fresh(self) -> grpc.ServerCertificateConfiguration | None:
        try:
            newest = stamp(self._files)
            if newest == self._stamp:
                return None
            made = self._read()
        except OSError as error:
            log.warning("new certificates cannot be used, the old ones stay", extra={"error": str(error)})
            return None
        self._stamp = newest
        return made

    def _read(self) -> grpc.ServerCertificateConfiguration:
        tls = self._tls
        server_context(tls.cert, tls.key, tls.client_ca)  # grpc says nothing of files that do not belong together
        pair = Path(tls.key).read_bytes(), Path(tls.cert).read_bytes()
        return grpc.ssl_server_certificate_configuration([pair], Path(tls.client_ca).read_bytes())
