"""What of an alert is kept: every text cut to a length, and the command line without its secrets.

It stands right behind classification, so that padding hides no detection, and before memory, disk and sinks, so that
none of them ever holds a secret or a text without end.
"""

from operator import attrgetter

from sidecar.decode import TEXTS
from sidecar.model import Alert, Fields
from sidecar.redact import Redactor

LONGEST = 512
"""Characters of a command line or a file name: sinks and pages show 500."""

LONGEST_TAGS = 2048
"""Characters of all tags together."""

LONGEST_NAME = 256
"""Characters of every other text: names of hosts, processes, containers, images and rules."""

_LONG = frozenset(("cmdline", "exepath", "file"))

_texts = attrgetter(*TEXTS)


def kept(alert: Alert, redact: Redactor) -> Alert:
    """The alert as it may be kept; its fields are changed in place."""
    fields = alert.fields
    if max(map(len, filter(None, _texts(fields))), default=0) > LONGEST_NAME:
        _cut(fields)
    for name in ("cmdline", "file"):
        text = getattr(fields, name)
        if text:
            setattr(fields, name, redact(text))
    if max(len(alert.host), len(alert.rule)) > LONGEST_NAME or sum(map(len, alert.tags)) > LONGEST_TAGS:
        tags = tuple(tag[:LONGEST_NAME] for tag in alert.tags[:32])
        return Alert(alert.time, alert.host[:LONGEST_NAME], alert.rule[:LONGEST_NAME], tags, fields)
    return alert


def _cut(fields: Fields) -> None:
    for name in TEXTS:
        text = getattr(fields, name)
        if text is not None:
            longest = LONGEST if name in _LONG else LONGEST_NAME
            setattr(fields, name, text[: longest if text.isascii() else longest // 2])
