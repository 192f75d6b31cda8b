"""Writes what the service reads of `secrets.toml`: the same as JSON, without the examples. `make docs`."""

import tomllib
from pathlib import Path

import msgspec

from sidecar.text.redaction.patterns import FILE, Secrets

SOURCE = FILE.with_name("secrets.toml")


def source() -> Secrets:
    """The contents of `secrets.toml` with its examples."""
    return msgspec.convert(tomllib.loads(SOURCE.read_text()), Secrets)


def packed() -> bytes:
    """The text of `secrets.json`."""
    secrets = source()
    plain = msgspec.to_builtins(secrets, order="sorted")
    for row in (*plain["tokens"], *plain["patterns"], *plain["programs"], plain["names"]):
        for key in [key for key, value in row.items() if key in ("masked", "kept") or value in ("", [], False)]:
            del row[key]
    return msgspec.json.format(msgspec.json.encode(plain), indent=1) + b"\n"


def write(path: Path = FILE) -> None:
    """Write the file."""
    path.write_bytes(packed())


if __name__ == "__main__":
    write()
