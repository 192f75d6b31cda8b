"""The settings of the sources: where alerts come in.

A source is a subclass of SourceSettings here, a field of `Settings`, and the module `sidecar/sources/FIELD.py`.
"""

from collections.abc import Iterator

from msgspec import field

from sidecar.net.admission import is_loopback
from sidecar.net.secret_path import read_secret_path
from sidecar.settings import extras
from sidecar.settings.section import Count, SecretText, Section
from sidecar.settings.tls import ServerTls
from sidecar.yamlfile.typed import Duration, lasting

MIN_SECRET_PATH_CHARS = 16


class SourceSettings(Section):
    """What the settings of every source answer."""

    def configured(self) -> bool:
        """Whether the source is in use."""
        raise NotImplementedError

    def needs_openssl(self) -> bool:
        """Whether Python's ssl module is needed; a source that never needs it says False and saves its memory."""
        return True


class HttpSourceSettings(SourceSettings):
    """Alerts over Falco's `http_output` (any Falco; the only network output from 0.44 on)."""

    enabled: bool = True
    """Accept alerts over HTTP."""
    host: str = "127.0.0.1"
    """Address to listen on. Any other than loopback needs `tls.client_ca`, `secret_path` or `insecure`."""
    port: int = 2802
    """Port to listen on; 0 picks a free one."""
    tls: ServerTls = field(default_factory=ServerTls)
    secret_path: SecretText = ""
    """The only path that accepts alerts, for example /4f1c...; any other is answered with 404."""
    secret_path_file: str = ""
    """File that holds the secret path (a Kubernetes Secret), read at startup."""
    insecure: bool = False
    """Accept alerts from any sender on an address that other machines can reach."""
    max_connections: Count = 64
    """Maximum number of open connections; one is reserved for loopback. When the limit is reached, an idle connection
    is closed, or the new one is closed after its response."""
    max_connections_per_client: Count = 8
    """Maximum number of open connections per client address."""
    header_timeout: Duration = lasting("5s")
    """Timeout for the request header and the TLS handshake."""
    body_timeout: Duration = lasting("10s")
    """Timeout for the request body."""

    def configured(self) -> bool:
        """Whether it is enabled."""
        return self.enabled

    def needs_openssl(self) -> bool:
        """With TLS."""
        return bool(self.tls.cert)

    def problems(self, path: str) -> Iterator[str]:
        """Whether the port exists, and whether anything protects it."""
        if not 0 <= self.port <= 65_535:
            yield f"{path}.port: expected a port number up to 65535, got {self.port}"
        if not self.enabled:
            return
        yield from super().problems(path)
        if self.secret_path and self.secret_path_file:
            yield f"{path}.secret_path, {path}.secret_path_file: give only one of them"
        if self.secret_path:
            yield from _weak(self.secret_path, f"{path}.secret_path")
        elif self.secret_path_file:
            yield from _unreadable(self.secret_path_file, f"{path}.secret_path_file")
        is_protected = self.tls.client_ca or self.secret_path or self.secret_path_file
        if not (is_loopback(self.host) or is_protected or self.insecure):
            yield (
                f"{path}.host: {self.host!r} can be reached from other machines, which could forge alerts; set "
                f"{path}.tls (cert, key and client_ca) or {path}.secret_path, or use 127.0.0.1; or set "
                f"{path}.insecure: true if something else protects this port"
            )


class GrpcSourceSettings(SourceSettings):
    """Alerts over Falco's gRPC output (Falco <= 0.43)."""

    enabled: bool = False
    """Read alerts from Falco's gRPC output."""
    address: str = "unix:///run/falco/falco.sock"
    """`unix:///path` or `host:port`; the latter needs the three certificate files."""
    ca: str = ""
    """CA certificate of Falco's gRPC server, PEM."""
    cert: str = ""
    """Client certificate, PEM."""
    key: str = ""
    """Private key of the client certificate, PEM."""
    min_poll_interval: Duration = lasting("20ms")
    """Polling interval while Falco has alerts."""
    max_poll_interval: Duration = lasting("500ms")
    """Maximum polling interval when Falco has no alerts (exponential back-off)."""

    def configured(self) -> bool:
        """Whether it is enabled."""
        return self.enabled

    def needs_openssl(self) -> bool:
        """Never: grpcio brings its own TLS."""
        return False

    def problems(self, path: str) -> Iterator[str]:
        """Whether gRPC is installed, and the certificates that a network address needs are there."""
        if self.enabled:
            yield from extras.grpc_problems(path)
            yield from super().problems(path)
        if self.enabled and not self.address.startswith("unix:") and not (self.ca and self.cert and self.key):
            yield (
                f"{path}.ca, {path}.cert, {path}.key: all three are needed for a network address: "
                "Falco requires a client certificate"
            )


class JournalSourceSettings(SourceSettings):
    """Alerts from the file that Falco's `file_output` writes; used beside `http`, it closes the gap of a restart."""

    path: str = ""
    """File to follow; empty turns it off."""
    poll_interval: Duration = lasting("250ms")
    """How often the file is checked for new lines."""

    def configured(self) -> bool:
        """Whether there is a file to follow."""
        return bool(self.path)

    def needs_openssl(self) -> bool:
        """Never."""
        return False


def _weak(secret: str, path: str) -> Iterator[str]:
    is_short = len(secret) < MIN_SECRET_PATH_CHARS
    if is_short or not secret.startswith("/") or not secret.isascii() or any(c in secret for c in " ?#\t\r\n"):
        yield (
            f"{path}: expected / followed by at least {MIN_SECRET_PATH_CHARS - 1} letters and digits, "
            "for example the output of `uuidgen`"
        )


def _unreadable(file: str, path: str) -> Iterator[str]:
    try:
        yield from _weak(read_secret_path(file), f"{path}: {file}")
    except (OSError, UnicodeDecodeError) as error:
        yield f"{path}: {file} cannot be read: {error}"
