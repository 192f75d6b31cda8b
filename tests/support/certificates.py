"""A certificate authority for one test, made by openssl."""

import subprocess
from pathlib import Path
from typing import NamedTuple

from conftest import needs


class Pair(NamedTuple):
    cert: Path
    key: Path


class Authority(NamedTuple):
    folder: Path
    cert: Path
    key: Path

    def issue(self, name: str) -> Pair:
        """A certificate for `name`, good for server and client."""
        pair = Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        request, names = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        names.write_text(f"subjectAltName=DNS:{name},IP:127.0.0.1\n")
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", pair.key, "-out", request)
        issuer = ("-CA", self.cert, "-CAkey", self.key, "-CAcreateserial", "-days", "2", "-extfile", names)
        _openssl("x509", "-req", "-in", request, *issuer, "-out", pair.cert)
        return pair


def make_ca(folder: Path) -> Authority:
    ca = Authority(folder, folder / "ca.crt", folder / "ca.key")
    options = ("-x509", "-nodes", "-days", "2", "-subj", "/CN=test authority")
    _openssl("req", "-newkey", "rsa:2048", *options, "-keyout", ca.key, "-out", ca.cert)
    return ca


def _openssl(*arguments: str | Path) -> None:
    subprocess.run([needs("openssl"), *map(str, arguments)], check=True, capture_output=True)
