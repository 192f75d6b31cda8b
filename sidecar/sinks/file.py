"""Incidents appended to a file, one JSON line each. It is opened for each, so rotation by rename just works."""

import os

from sidecar.errors import SinkError
from sidecar.sinks import Outgoing


class FileSink:
    """Appends to `path`, and returns once the line is on disk."""

    name = "file"

    def __init__(self, path: str) -> None:
        self._path = path

    async def send(self, out: Outgoing) -> None:
        """Raises SinkError if the line could not be written."""
        try:
            with open(self._path, "ab", buffering=0) as file:  # noqa: ASYNC230, PTH123 - a line now and then
                file.write(out.body + b"\n")
                os.fsync(file.fileno())
        except OSError as error:
            raise SinkError(f"file: {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Nothing is kept open."""
