"""What an alert means, seen at its end alone: nineteen of twenty need no decoding.

Falco sorts an alert's keys, so behind the output fields stand priority, rule, source and tags: the same bytes each
time one of its rules fires. Whatever follows from them is worked out once. Only an alert written exactly like that is
known by its end; quotes inside texts are escaped, so no text of an attacker can look like one.
"""

from msgspec import Struct

from sidecar.alerts.classify import NOTHING, Verdict
from sidecar.alerts.decode import Envelope
from sidecar.errors import AlertError
from sidecar.model import LONGEST_NAME

REMEMBERED, LONGEST = 1024, 1024
"""Endings that are remembered, and bytes of one. A Falco has a few hundred rules."""

_BEGIN, _END, _STAMP = b',"priority":"', b',"time":"', len('2026-11-24T03:07:40.535012431Z"}')


class Known(Struct, frozen=True):
    """What an ending told: the verdict, and the rule and tags that stand in it."""

    verdict: Verdict
    rule: str
    tags: tuple[str, ...]


ORDINARY = Known(NOTHING, "", ())
"""The alert is nobody's evidence, and nothing is odd about it."""


class Endings:
    """Endings that were seen, with what they told."""

    def __init__(self) -> None:
        self._known: dict[bytes, Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def look(self, body: bytes) -> Known | None:
        """What an alert means, if its end tells it."""
        known = self._known.get(body[body.rfind(_BEGIN) - 2 : -_STAMP])
        return known if known is not None and body.count(b'"', -_STAMP) == 1 else None  # the time is the last key

    def remember(self, body: bytes, envelope: Envelope, verdict: Verdict) -> None:
        """Take note of what an alert turned out to be, if all alike are nothing else."""
        end = body[body.rfind(_BEGIN) - 2 : -_STAMP]
        fits = len(end) <= LONGEST and end.endswith(_END) and end[1:2] == b"}" and end[:1] != b"{"
        fits = fits and len(envelope.rule) <= LONGEST_NAME
        if not fits or not (verdict is NOTHING or verdict.relevant) or envelope.oddities():
            return
        try:
            envelope.check()
            known = Known(verdict, envelope.rule, envelope.tags)
        except AlertError:
            return
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[end] = known if verdict.relevant else ORDINARY
