"""Recorded alerts, as fast as they can be read: files of JSON lines, plain or .gz, and standard input."""

import gzip
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from sidecar.errors import ConfigError

STDIN = "-"


def lines(paths: Sequence[str], advanced: Callable[[int], None]) -> Iterator[bytes]:
    """The lines of all files in order, without blank ones; `advanced` gets the bytes read from the disk so far.

    Raises ConfigError if a file cannot be read.
    """
    before = 0
    for path in paths:
        try:
            yield from _lines_of(path, lambda read, start=before: advanced(start + read))  # type: ignore[misc]
        except (OSError, EOFError) as error:
            raise ConfigError(path, [f"cannot be read: {getattr(error, 'strerror', None) or error}"]) from None
        before += size([path])


def size(paths: Sequence[str]) -> int:
    """Bytes of all files together, 0 for what has no size."""
    return sum(Path(path).stat().st_size for path in paths if path != STDIN and Path(path).is_file())


def _lines_of(path: str, advanced: Callable[[int], None]) -> Iterator[bytes]:
    if path == STDIN:
        yield from filter(None, map(bytes.strip, sys.stdin.buffer))
        return
    with Path(path).open("rb") as raw:
        file: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=raw) if path.endswith(".gz") else raw
        for number, line in enumerate(file):
            if line := line.strip():
                yield line
            if number % 1000 == 0:
                advanced(raw.tell())
