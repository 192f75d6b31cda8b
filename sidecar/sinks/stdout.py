"""Incidents on standard output: a JSON line each, or as a person reads them."""

import sys
from typing import Literal, TextIO

from sidecar.errors import SinkError
from sidecar.incident import to_json
from sidecar.model import Message


class StdoutSink:
    """Writes to `out`."""

    name = "stdout"

    def __init__(self, form: Literal["json", "text"], out: TextIO | None = None) -> None:
        self._form = form
        self._out = out or sys.stdout

    async def send(self, note: Message) -> None:
        """Raises SinkError if standard output is closed."""
        try:
            self._write(note)
            self._out.flush()
        except OSError as error:
            raise SinkError(f"stdout: {error.strerror}") from error

    def close(self) -> None:
        """Standard output is not ours to close."""

    def _write(self, note: Message) -> None:
        if self._form == "json":
            self._out.write(to_json(note).decode() + "\n")
        else:
            from sidecar.present import show  # noqa: PLC0415 - rich costs memory that JSON does not need

            show(note, self._out)
