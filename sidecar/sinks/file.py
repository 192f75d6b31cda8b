"""Incidents appended to a file, one JSON line each. It is opened for each, so rotation by rename just works.

A line that a crash or a full disk cut short is ended first, so that it spoils no other.
"""

import asyncio
import os
from contextlib import suppress

from sidecar.errors import SinkError
from sidecar.model import Outgoing
from sidecar.settings.sinks import FileSinkSettings


class FileSink:
    """Appends to `path`, and returns once the line is on disk."""

    name = "file"

    def __init__(self, path: str) -> None:
        self._path = path

    async def send(self, out: Outgoing) -> None:
        """Raises SinkError if the line could not be written."""
        try:
            await asyncio.to_thread(_append, self._path, out.body)
        except OSError as error:
            raise SinkError(f"file: {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Nothing is kept open."""


def _append(path: str, body: bytes) -> None:
    """Add a line, which can take as long as the disk or the reader of a pipe does."""
    line = (b"\n" if _is_torn(path) else b"") + body + b"\n"
    with open(path, "ab") as file:  # noqa: PTH123 - a line now and then
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def _is_torn(path: str) -> bool:
    """Whether a file's last line has no end."""
    if not os.path.isfile(path):  # noqa: PTH113 - a pipe has nothing to look at
        return False
    with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123 - as above
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
    return False


def make_sink(settings: FileSinkSettings) -> FileSink:
    """The sink for `sinks.file`."""
    return FileSink(settings.path)
