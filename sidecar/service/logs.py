"""Logs as JSON lines on standard error: what happened, and the facts beside it as keys."""

import logging
import sys
from datetime import UTC, datetime

from sidecar.text.escape import log_line
from sidecar.text.redaction.redactor import Redactor

_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

_redact = Redactor()
"""A traceback may quote what was being worked on."""


class JsonFormatter(logging.Formatter):
    """One record, one line; `extra` becomes keys."""

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
            line["exception"] = _redact(self.formatException(record.exc_info))
        return log_line(line)


def setup(level: str) -> None:
    """Send all logs of `level` and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
