"""What is kept of an alert: its texts without their secrets, then cut to a length.

This runs right after classification, so that padding hides no detection, and before anything is stored or sent, so that
memory, disk and sinks never hold a secret or an endless text. Masking comes first: a secret that the cut goes through
is no longer recognised by what follows it.
"""

from collections.abc import Set as AbstractSet
from operator import itemgetter

from msgspec.structs import astuple, replace
from msgspec.structs import fields as struct_fields

from sidecar.alerts import ancestry
from sidecar.alerts.decode import TEXTS, BoundedFields
from sidecar.model import FALLBACKS, MAX_COMMAND_CHARS, MAX_NAME_CHARS, Alert, Fields
from sidecar.text.redaction.redactor import Redactor

MAX_TAGS = 32
"""Tags that are kept of an alert whose tags are too long."""

MAX_TAGS_CHARS = 2048
"""Characters of all tags together."""

NOT_MASKED = {
    "container_id": "hexadecimal, assigned by the container runtime",
    "device": "a number, formatted by Falco",
    "evt_type": "the name of a system call, from the kernel's table",
    "image": "kubectl shows it to everyone who may see the pod, and next steps name it",
    "image_tag": "as the image",
    "namespace": "a DNS label, validated by the Kubernetes API server; next steps name it",
    "pod": "as the namespace",
    "remote_ip": "an address, formatted by Falco",
    "stdin_type": "one of Falco's words for a kind of descriptor",
}
"""Text fields that hold no secret, each with the reason. Every other text field is masked, new ones by themselves."""

MASKED = tuple(name for name in TEXTS if name not in (*NOT_MASKED, *dict(FALLBACKS), "packed"))
"""The others, without the fallbacks: decoding moves their values to the fields that they stand in for. The texts
within the packed field are masked one by one."""

FILES = ("exepath", "pexepath", *(f"aexepath{above}" for above in range(2, 7)))
"""The executables of a process and its ancestors."""

_LONG = frozenset(("cmdline", "file", *FILES))
_OTHERS = tuple(name for name in MASKED if name != "cmdline")
_other_texts = itemgetter(*map([field.name for field in struct_fields(Fields)].index, _OTHERS))
"""Of all values in the order of the fields, those to mask: half the cost of getting each by its name."""


def truncate(alert: Alert) -> Alert:
    """The alert with its host, rule and tags at their greatest lengths. Those are Falco's own settings: not masked."""
    if max(len(alert.host), len(alert.rule)) <= MAX_NAME_CHARS and sum(map(len, alert.tags)) <= MAX_TAGS_CHARS:
        return alert
    tags = tuple(tag[:MAX_NAME_CHARS] for tag in alert.tags[:MAX_TAGS])
    return replace(alert, host=alert.host[:MAX_NAME_CHARS], rule=alert.rule[:MAX_NAME_CHARS], tags=tags)


def mask_and_truncate(fields: Fields, redact: Redactor) -> None:
    """Mask the secrets in all texts that may hold some, then cut all texts, in place."""
    harmless = redact.harmless
    cmdline = fields.cmdline
    if cmdline not in harmless:  # nearly every one is new, which would make the look at all texts below fail
        fields.cmdline = _shortened(redact(cmdline or ""), "cmdline")
    texts = _other_texts(astuple(fields))
    if not harmless.issuperset(texts) and _are_changed(set(texts) - harmless, redact):
        for name, text in zip(_OTHERS, texts, strict=True):
            if text not in harmless:
                setattr(fields, name, _shortened(redact(text), name))
    if fields.packed is not None:
        fields.packed = ancestry.redacted(fields.packed, redact, harmless)
    if type(fields) is not BoundedFields:  # decoding found a text that is too long, or something else that is odd
        for name in NOT_MASKED:
            setattr(fields, name, _shortened(getattr(fields, name) or "", name) or None)


def _are_changed(texts: AbstractSet[str], redact: Redactor) -> bool:
    """Whether masking or cutting changes any of these texts, which is rare: only then each field is looked at."""
    return any(redact(text) != text or len(text) > MAX_NAME_CHARS // 2 for text in texts)


def _shortened(text: str, name: str) -> str:
    """The text at its greatest length; where it is not ASCII at half of it, since it takes more memory."""
    limit = MAX_COMMAND_CHARS if name in _LONG else MAX_NAME_CHARS
    return text if len(text) <= limit // 2 else text[: limit if text.isascii() else limit // 2]
