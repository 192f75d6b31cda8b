"""What of an alert is kept: every text cut to a length, and the command line without its secrets.

It stands right behind classification, so that padding hides no detection, and before memory, disk and sinks, so that
none of them ever holds a secret or a text without end.
"""

from sidecar.decode import TEXTS
from sidecar.model import Alert
from sidecar.redact import Redactor

LONGEST = 1024
"""Characters of a command line or a file name: sinks and pages show 500."""

LONGEST_NAME = 256
"""Characters of every other text: names of hosts, processes, containers, images and rules."""

_LONG = frozenset(("cmdline", "exepath", "file"))

_TEXTS = tuple((name, LONGEST if name in _LONG else LONGEST_NAME) for name in TEXTS)


def kept(alert: Alert, redact: Redactor) -> Alert:
    """The alert as it may be kept; its fields are changed in place."""
    fields = alert.fields
    for name, longest in _TEXTS:
        text = getattr(fields, name)
        if text is not None and len(text) > longest:
            setattr(fields, name, text[:longest])
    for name in ("cmdline", "file"):
        text = getattr(fields, name)
        if text:
            setattr(fields, name, redact(text))
    if max(len(alert.host), len(alert.rule)) > LONGEST_NAME or sum(map(len, alert.tags)) > LONGEST:
        tags = tuple(tag[:LONGEST_NAME] for tag in alert.tags[:32])
        return Alert(alert.time, alert.host[:LONGEST_NAME], alert.rule[:LONGEST_NAME], tags, fields)
    return alert
