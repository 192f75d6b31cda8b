"""What of an alert is kept: its texts cut to a length, and its command line and file name without their secrets.

It stands right behind classification, so that padding hides no detection, and before memory, disk and sinks, so that
none of them ever holds a secret or a text without end. (The texts of the output fields are cut by decoding already.)
"""

from msgspec.structs import replace

from sidecar.model import LONGEST_NAME, Alert, Fields
from sidecar.text.redaction.redactor import Redactor

LONGEST_TAGS = 2048
"""Characters of all tags together."""


def cut(alert: Alert) -> Alert:
    """The alert with its host, rule and tags at their greatest lengths."""
    if max(len(alert.host), len(alert.rule)) <= LONGEST_NAME and sum(map(len, alert.tags)) <= LONGEST_TAGS:
        return alert
    tags = tuple(tag[:LONGEST_NAME] for tag in alert.tags[:32])
    return replace(alert, host=alert.host[:LONGEST_NAME], rule=alert.rule[:LONGEST_NAME], tags=tags)


def mask(fields: Fields, redact: Redactor) -> None:
    """Mask the secrets in the texts that may hold some, in place."""
    cmdline, file = fields.cmdline, fields.file
    if cmdline and cmdline not in redact.harmless:
        fields.cmdline = redact(cmdline)
    if file and file not in redact.harmless:
        fields.file = redact(file)
