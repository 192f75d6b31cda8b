"""TLS contexts of listening ports and of clients. OpenSSL is loaded only when one is built."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ssl


Stamp = tuple[tuple[int, int, int], ...]
"""For each file the time of its last change (ns), inode and size."""


class ClientFiles(NamedTuple):
    """PEM files of a client: the authority that it trusts (the system's if empty), its certificate and key, if any."""

    ca: str = ""
    cert: str = ""
    key: str = ""


def stamp(files: Iterable[str]) -> Stamp:
    """A value that changes whenever one of the files does. Raises OSError if one cannot be read."""
    stats = [Path(file).stat() for file in files if file]
    return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)


def server_context(cert: str, key: str, client_ca: str) -> "ssl.SSLContext":
    """TLS for a server; with `client_ca`, clients need a certificate of it. Raises OSError (or ssl.SSLError)."""
    import ssl  # noqa: PLC0415 - only where TLS is configured, see without_openssl.py

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(files: ClientFiles) -> "ssl.SSLContext":
    """TLS for a client that checks the server's name. Raises OSError (or ssl.SSLError)."""
    import ssl  # noqa: PLC0415 - as above

    context = ssl.create_default_context(cafile=files.ca or None)
    if files.cert:
        context.load_cert_chain(files.cert, files.key)
    return context
