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


NO_CERTIFICATE = "contains no certificate in PEM"


class UnusableError(OSError):
    """A file is not what it should be. `setting` names it: `cert`, `key`, `ca` or `client_ca`."""

    def __init__(self, setting: str, text: str) -> None:
        super().__init__(text)
        self.setting = setting


def unreadable(file: str) -> str:
    """Why a file cannot be read, "" if it can or none is named."""
    try:
        if file:
            Path(file).read_bytes()
    except (OSError, ValueError) as error:
        return f"{file!r} cannot be read: {getattr(error, 'strerror', '') or error}"
    return ""


def server_context(cert: str, key: str, client_ca: str) -> "ssl.SSLContext":
    """TLS for a server; with `client_ca`, clients need a certificate of it.

    Raises:
        OSError: a file cannot be read; as UnusableError, its content cannot be used.
    """
    import ssl  # noqa: PLC0415 - only where TLS is configured, see without_openssl.py

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_certificate(context, cert, key)
    if client_ca:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError:
            raise UnusableError("client_ca", NO_CERTIFICATE) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(files: ClientFiles) -> "ssl.SSLContext":
    """TLS for a client that checks the server's name. Raises as `server_context`."""
    import ssl  # noqa: PLC0415 - as above

    try:
        context = ssl.create_default_context(cafile=files.ca or None)
    except ssl.SSLError:
        raise UnusableError("ca", NO_CERTIFICATE) from None
    if files.cert:
        _load_certificate(context, files.cert, files.key)
    return context


def _load_certificate(context: "ssl.SSLContext", cert: str, key: str) -> None:
    import ssl  # noqa: PLC0415 - as above

    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        raise _unusable(error, cert) from None


def _no_password() -> str:
    """Asked for the password of a key: without this function, OpenSSL would ask on the terminal, and wait."""
    raise UnusableError("key", "is encrypted; remove its password: openssl pkey -in KEY -out NEW")


def _unusable(error: "ssl.SSLError", cert: str) -> UnusableError:
    """What is wrong with a certificate or its key."""
    if error.reason == "KEY_VALUES_MISMATCH":
        return UnusableError("key", "does not belong to the certificate; give the key that it was made with")
    if b"-----BEGIN CERTIFICATE-----" in Path(cert).read_bytes() and error.reason != "EE_KEY_TOO_SMALL":
        return UnusableError("key", f"contains no key in PEM that can be used ({error.reason or error})")
    return UnusableError("cert", f"contains no certificate in PEM that can be used ({error.reason or error})")
