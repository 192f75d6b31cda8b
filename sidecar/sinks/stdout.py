"""Incidents on standard output: a JSON line each, or as a person reads them."""

import sys
from typing import Literal, TextIO

from sidecar.errors import SinkError
from sidecar.model import Outgoing
from sidecar.settings.sinks import StdoutSinkSettings


class StdoutSink:
    """Writes to `out`."""

    name = "stdout"

    def __init__(self, form: Literal["json", "text"], out: TextIO | None = None) -> None:
        self._form = form
        self._out = out or sys.stdout

    async def send(self, out: Outgoing) -> None:
        """Raises SinkError if standard output is closed."""
        try:
            self._write(out)
            self._out.flush()
        except OSError as error:
            raise SinkError(f"stdout: {error.strerror}") from error

    def close(self) -> None:
        """Standard output is not ours to close."""

    def _write(self, out: Outgoing) -> None:
        if self._form == "json" or out.message is None:
            self._out.write(out.body.decode() + "\n")
        else:
            from sidecar.incidents.terminal import show  # noqa: PLC0415 - rich costs memory that JSON does not need

            show(out.message, self._out)


def make_sink(settings: StdoutSinkSettings) -> StdoutSink:
    """The sink for `sinks.stdout`."""
    return StdoutSink(settings.format)
