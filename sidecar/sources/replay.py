"""Recorded alerts from files, folders, pipes and standard input, plain or gzipped, as fast as they can be read."""

import gzip
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from sidecar.alerts import framing
from sidecar.errors import ConfigError

STDIN = "-"

SUFFIXES = (".jsonl", ".json", ".ndjson", ".log", ".txt", ".gz")
"""Endings of the files in a folder that are read."""

_GZIP = b"\x1f\x8b"
_COMPRESSED = {b"\x28\xb5\x2f\xfd": "zstdcat", b"\xfd7zXZ": "xzcat", b"BZh": "bzcat"}
"""First bytes of other compressed formats, with the program that reads each."""


def files(paths: Sequence[str]) -> list[str]:
    """The files that `paths` name, and for a folder those inside, sorted by name.

    Raises:
        ConfigError: a path does not exist, or is a folder without recordings.
    """
    names: list[str] = []
    for path in paths:
        if path != STDIN and Path(path).is_dir():
            inside = [
                str(file) for file in sorted(Path(path).iterdir()) if file.name.endswith(SUFFIXES) and file.is_file()
            ]
            if not inside:
                raise ConfigError(path, [f"no file in this folder ends with {', '.join(SUFFIXES)}"])
            names += inside
        elif path != STDIN and not Path(path).exists():
            raise ConfigError(path, ["no such file; give files or folders of recorded alerts, or - for standard input"])
        else:
            names.append(path)
    return names


def alerts(paths: Sequence[str], advanced: Callable[[int], None]) -> Iterator[bytes]:
    """The alerts of all files in order; `advanced` is called with the bytes read from disk so far.

    Raises:
        ConfigError: a file cannot be read.
    """
    before = 0
    for path in paths:
        try:
            yield from framing.alerts(_lines(path, lambda read, start=before: advanced(start + read)))  # type: ignore[misc]
        except (OSError, EOFError) as error:
            raise ConfigError(path, [f"cannot be read: {getattr(error, 'strerror', None) or error}"]) from None
        before += size([path])


def size(paths: Sequence[str]) -> int:
    """Size of all files together in bytes; pipes and standard input count as 0."""
    return sum(Path(path).stat().st_size for path in paths if path != STDIN and Path(path).is_file())


def _lines(path: str, advanced: Callable[[int], None]) -> Iterator[bytes]:
    if path == STDIN:
        yield from _plain(io.BufferedReader(sys.stdin.buffer), path)  # type: ignore[arg-type]
        return
    with Path(path).open("rb") as raw:
        for number, line in enumerate(_plain(raw, path)):
            yield line
            if number % 1000 == 0 and raw.seekable():
                advanced(raw.tell())


def _plain(raw: io.BufferedReader, path: str) -> BinaryIO | gzip.GzipFile:
    """A file without its compression. Its first bytes decide, since a pipe has no name."""
    start = raw.peek(8)
    for magic, program in _COMPRESSED.items():
        if start.startswith(magic):
            raise ConfigError(path, [f"is compressed; use: {program} {path} | falco-correlator replay -"])
    return gzip.GzipFile(fileobj=raw) if start.startswith(_GZIP) else raw
