"""TLS of a listening port, and of a client."""

from collections.abc import Callable, Iterator, Mapping

from sidecar.net.tls_context import ClientFiles, UnusableError, client_context, server_context, unreadable
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
        files = {"cert": self.cert, "key": self.key, "client_ca": self.client_ca}
        return _problems(path, files, lambda: server_context(self.cert, self.key, self.client_ca))


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
            yield from _problems(path, self.files()._asdict(), lambda: client_context(self.files()))


def _problems(path: str, files: Mapping[str, str], load: Callable[[], object]) -> Iterator[str]:
    """What is wrong with PEM files, by their settings below `path`."""
    problems = [f"{path}.{name}: {problem}" for name, file in files.items() if (problem := unreadable(file))]
    yield from problems
    try:
        if not problems:
            load()
    except UnusableError as error:
        yield f"{path}.{error.setting}: {files[error.setting]}: {error}"
