"""The secret path: a sender that has it may send alerts.

A forged alert can open a false incident or hide a real one, and Falco cannot send a password. So on any address other
than loopback, the service requires a secret path, client certificates, or an explicit setting.
"""

from pathlib import Path


def read_secret_path(file: str) -> str:
    """The path in a file. Raises OSError, or UnicodeDecodeError if it is not ASCII."""
    return Path(file).read_text("ascii").strip()


class SecretPath:
    """Access control of the ingest port: accepts requests for `path`, or all if it is empty."""

    def __init__(self, path: str) -> None:
        from hmac import compare_digest  # noqa: PLC0415 - it loads OpenSSL, see without_openssl.py

        self._same = compare_digest
        self._path = path.encode()

    def __call__(self, target: str) -> str:
        """The status that refuses a request for this target, or ""."""
        path = target.partition("?")[0].encode("latin-1")
        return "" if not self._path or self._same(path, self._path) else "404 Not Found"
