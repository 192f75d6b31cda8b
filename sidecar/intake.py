"""What of an alert is kept: its texts cut to a length, and its command line and file name without their secrets.

It stands right behind classification, so that padding hides no detection, and before memory, disk and sinks, so that
none of them ever holds a secret or a text without end. (The texts of the output fields are cut by decoding already.)
"""

from sidecar.model import LONGEST_NAME, Alert
from sidecar.redact import Redactor

LONGEST_TAGS = 2048
"""Characters of all tags together."""


def kept(alert: Alert, redact: Redactor) -> Alert:
    """The alert as it may be kept; its fields are changed in place."""
    fields = alert.fields
    if fields.cmdline:
        fields.cmdline = redact(fields.cmdline)
    if fields.file:
        fields.file = redact(fields.file)
    if max(len(alert.host), len(alert.rule)) > LONGEST_NAME or sum(map(len, alert.tags)) > LONGEST_TAGS:
        tags = tuple(tag[:LONGEST_NAME] for tag in alert.tags[:32])
        return Alert(alert.time, alert.host[:LONGEST_NAME], alert.rule[:LONGEST_NAME], tags, fields)
    return alert
