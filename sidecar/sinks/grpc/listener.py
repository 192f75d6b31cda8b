"""How the gRPC server listens: on a Unix socket with a file mode, or on a port with mutual TLS."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from sidecar.net.addresses import socket_path
from sidecar.net.tls_context import server_context, stamp

if TYPE_CHECKING:
    from sidecar.settings.sinks import GrpcSinkSettings
    from sidecar.settings.tls import ServerTls

log = logging.getLogger(__name__)

MODES = {"owner": 0o600, "group": 0o660, "all": 0o666}


def listen(server: Any, settings: "GrpcSinkSettings") -> int:
    """Listen on the address; returns the port."""
    try:
        if settings.tls.cert:
            return int(server.add_secure_port(settings.address, _Certificates(settings.tls).credentials()))
        old = os.umask(0o177)  # no other user can connect before the mode is set
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
    """The certificate files. After a change, the next handshake reads them again; invalid ones are ignored."""

    def __init__(self, tls: "ServerTls") -> None:
        self._tls = tls
        self._files = (tls.cert, tls.key, tls.client_ca)
        self._stamp = stamp(self._files)

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that require a client certificate issued by the CA."""
        return grpc.dynamic_ssl_server_credentials(
            self._read(),
            self._reloaded,  # type: ignore[arg-type]  # None means that nothing changed
            require_client_authentication=True,
        )

    def _reloaded(self) -> grpc.ServerCertificateConfiguration | None:
        try:
            newest = stamp(self._files)
            if newest == self._stamp:
                return None
            configuration = self._read()
        except OSError as error:
            log.warning("the new certificates cannot be used, keeping the old ones", extra={"error": str(error)})
            return None
        self._stamp = newest
        return configuration

    def _read(self) -> grpc.ServerCertificateConfiguration:
        tls = self._tls
        server_context(tls.cert, tls.key, tls.client_ca)  # raises for a key that does not match, which grpc accepts
        pair = Path(tls.key).read_bytes(), Path(tls.cert).read_bytes()
        return grpc.ssl_server_certificate_configuration([pair], Path(tls.client_ca).read_bytes())
