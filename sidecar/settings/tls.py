"""TLS of a listening port, and of a client."""

from collections.abc import Iterator

from sidecar.net.tls_context import ClientFiles, client_context, server_context
from sidecar.settings.section import Section


class ServerTls(Section):
    """TLS of a port. Changed files are picked up at the next handshake; open connections stay."""

    cert: str = ""
    """Server certificate with its intermediates, PEM."""
    key: str = ""
    """Private key of the certificate, PEM."""
    client_ca: str = ""
    """If set, only clients with a certificate of this authority are accepted (falco.yaml: http_output.mtls)."""
    allowed_names: list[str] = []
    """If set, only client certificates with one of these names (CN or SAN) are accepted."""

    def problems(self, path: str) -> Iterator[str]:
        """Parts that are missing, and files that cannot be used."""
        if bool(self.cert) != bool(self.key):
            yield f"{path}.cert, {path}.key: both are needed for TLS"
        if self.cert and self.key:
            yield from self._unusable(path)
        if self.client_ca and not self.cert:
            yield f"{path}.client_ca: needs {path}.cert and {path}.key"
        if self.allowed_names and not self.client_ca:
            yield f"{path}.allowed_names: needs {path}.client_ca, the authority whose certificates are accepted"

    def _unusable(self, path: str) -> Iterator[str]:
        try:
            server_context(self.cert, self.key, self.client_ca)
        except OSError as error:
            yield f"{path}: {self.cert}, {self.key} and {self.client_ca or 'no client_ca'} cannot be used: {error}"


class ClientTls(Section):
    """TLS to a receiver whose URL begins with https. Changed files are picked up at the next connection."""

    ca: str = ""
    """Authority of the receiver's certificate, PEM; empty means those of the system."""
    cert: str = ""
    """Client certificate with its intermediates, PEM, if the receiver asks for one."""
    key: str = ""
    """Private key of the client certificate, PEM."""

    def files(self) -> ClientFiles:
        """As a client takes them."""
        return ClientFiles(self.ca, self.cert, self.key)

    def problems(self, path: str) -> Iterator[str]:
        """Parts that are missing, and files that cannot be used."""
        if bool(self.cert) != bool(self.key):
            yield f"{path}.cert, {path}.key: both are needed for a client certificate"
        elif any(self.files()):
            try:
                client_context(self.files())
            except OSError as error:
                used = ", ".join(file for file in self.files() if file)
                yield f"{path}: {used}: cannot be used: {error}"
