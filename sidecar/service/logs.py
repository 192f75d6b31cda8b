"""Logs on standard error: JSON lines, and on a terminal lines for people."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from sidecar.text.escape import ascii_json, terminal
from sidecar.text.redaction.redactor import Redactor

_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

MAX_KINDS = 100
"""Messages that a rate limit remembers."""


class JsonFormatter(logging.Formatter):
    """One record, one line; `extra` becomes keys. Secrets in a traceback, which may quote an alert, are masked."""

    def __init__(self, redact: Redactor | None = None) -> None:
        super().__init__()
        self._redact = redact or Redactor()

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        line = {
            "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{key: value for key, value in record.__dict__.items() if key not in _PLAIN},
        }
        if record.exc_info:
            line["exception"] = self._redact(self.formatException(record.exc_info))
        return ascii_json(line)


class TerminalFormatter(JsonFormatter):
    """One record as a line to read: time of day, level, message, and details as `key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line, a traceback below it."""
        details = [f"{key}={value}" for key, value in record.__dict__.items() if key not in _PLAIN]
        words = [f"{datetime.fromtimestamp(record.created):%H:%M:%S}", f"{record.levelname.lower():7}"]  # noqa: DTZ006 - a terminal's time
        line = terminal("  ".join([*words, record.getMessage(), *details]))
        return f"{line}\n{self._redact(self.formatException(record.exc_info))}" if record.exc_info else line


class RateLimit(logging.Filter):
    """Lets each warning and error through `burst` times in `seconds`; then one says how many were `suppressed`.

    asyncio repeats "out of system resource" as fast as it can while no file descriptor is free.
    """

    def __init__(self, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic, burst: int = 1) -> None:
        super().__init__()
        self._seconds = seconds
        self._clock = clock
        self._burst = burst
        self._since: dict[str, float] = {}
        self._passed: Counter[str] = Counter()
        self._suppressed: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if record.levelno < logging.WARNING:
            return True
        kind = record.getMessage().partition("\n")[0][:40]
        now = self._clock()
        if now - self._since.get(kind, -self._seconds) >= self._seconds:
            self._begin(kind, now)
        elif self._passed[kind] >= self._burst:
            self._suppressed[kind] += 1
            return False
        self._passed[kind] += 1
        if suppressed := self._suppressed.pop(kind, 0):
            record.suppressed = suppressed
        return True

    def _begin(self, kind: str, now: float) -> None:
        if len(self._since) >= MAX_KINDS:
            for each in (self._since, self._passed, self._suppressed):
                each.clear()
        self._since[kind] = now
        self._passed[kind] = 0


def setup(level: str, redact: Redactor | None = None) -> None:
    """Send all logs of `level` and above to standard error, their tracebacks masked by `redact`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TerminalFormatter(redact) if sys.stderr.isatty() else JsonFormatter(redact))
    handler.addFilter(RateLimit(burst=20))
    logging.getLogger("asyncio").addFilter(RateLimit())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
