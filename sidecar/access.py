"""Who may bring alerts: Falco on the same machine, a client with a certificate, or whoever knows the secret path.

A forged alert can open a false incident or cover a true one, and Falco cannot send a password: so on any other address
than loopback the service does not start without one of these, or without being told that this is meant.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.connections import is_loopback

if TYPE_CHECKING:
    import ssl

    from sidecar.settings import HttpSource, ServerTls

SHORTEST = 16
"""Characters of a secret path at least."""


def mistakes(http: "HttpSource") -> Iterator[str]:
    """What is wrong with these settings, each with its remedy."""
    yield from tls_mistakes(http.tls, "http.tls")
    if http.secret_path and http.secret_path_file:
        yield "http.secret_path, http.secret_path_file: give only one of them"
    if http.secret_path:
        yield from _weak(http.secret_path, "http.secret_path")
    elif http.secret_path_file:
        yield from _unreadable(http.secret_path_file)
    knows_falco = http.tls.client_ca or http.secret_path or http.secret_path_file
    if not (is_loopback(http.host) or knows_falco or http.insecure):
        yield (
            f"http.host: {http.host!r} can be reached by others, who could forge alerts; set http.tls (cert, key and "
            "client_ca), or http.secret_path, or keep to 127.0.0.1; or say http.insecure: true if something else "
            "protects this port"
        )


def tls_mistakes(tls: "ServerTls", where: str) -> Iterator[str]:
    """What is wrong with the TLS settings at the path `where`."""
    if bool(tls.cert) != bool(tls.key):
        yield f"{where}.cert, {where}.key: are both needed for TLS"
    if tls.cert and tls.key:
        yield from _unusable(tls, where)
    if tls.client_ca and not tls.cert:
        yield f"{where}.client_ca: needs {where}.cert and {where}.key"
    if tls.allowed_names and not tls.client_ca:
        yield f"{where}.allowed_names: needs {where}.client_ca, which says whose certificates are believed"


def includes_loopback(host: str) -> bool:
    """Whether who listens on this address can be reached from the same machine."""
    return host in ("", "0.0.0.0", "::") or is_loopback(host)  # noqa: S104 - it is asked, not bound


def _weak(path: str, where: str) -> Iterator[str]:
    if not path.startswith("/") or len(path) < SHORTEST or not path.isascii() or any(c in path for c in " ?#\t\r\n"):
        yield f"{where}: expected / and at least {SHORTEST - 1} letters and digits behind it, for example of `uuidgen`"


def server_context(cert: str, key: str, client_ca: str) -> "ssl.SSLContext":
    """TLS for a server; with `client_ca` only for clients that it certified. Raises OSError (ssl.SSLError is one)."""
    import ssl  # noqa: PLC0415 - only where TLS is configured, see openssl.py

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _unusable(tls: "ServerTls", where: str) -> Iterator[str]:
    try:
        server_context(tls.cert, tls.key, tls.client_ca)
    except OSError as error:
        yield f"{where}: {tls.cert}, {tls.key} and {tls.client_ca or 'no client_ca'} cannot be used: {error}"


def _unreadable(file: str) -> Iterator[str]:
    try:
        yield from _weak(_read(file), f"http.secret_path_file: {file}")
    except (OSError, UnicodeDecodeError) as error:
        yield f"http.secret_path_file: {file} cannot be read: {error}"


def _read(file: str) -> str:
    return Path(file).read_text("ascii").strip()


class SecretPath:
    """The gate of the ingest port: lets pass whoever knows the path, everybody if there is none.

    Raises OSError if the file of the path cannot be read.
    """

    def __init__(self, http: "HttpSource") -> None:
        from hmac import compare_digest  # noqa: PLC0415 - it loads OpenSSL, see openssl.py; settings are not to

        self._same = compare_digest
        self._path = (_read(http.secret_path_file) if http.secret_path_file else http.secret_path).encode()

    def __call__(self, target: str) -> str:
        """The status that refuses a request for this target, or ""."""
        path = target.partition("?")[0].encode("latin-1")
        return "" if not self._path or self._same(path, self._path) else "404 Not Found"
