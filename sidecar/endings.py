"""What an alert means, seen at its end alone: nineteen of twenty need no decoding.

Falco sorts an alert's keys, so behind the output fields stand priority, rule, source and tags: the same bytes each
time one of its rules fires. Whatever follows from them is worked out once. Only an alert written exactly like that is
known by its end; quotes inside texts are escaped, so no text of an attacker can look like one.
"""

from typing import NamedTuple

from sidecar.classify import NOTHING, Verdict
from sidecar.decode import Envelope
from sidecar.errors import AlertError
from sidecar.model import LONGEST_NAME

REMEMBERED, LONGEST = 1024, 1024
"""Endings that are remembered, and bytes of one. A Falco has a few hundred rules."""

_BEGIN, _TIME = b',"priority":"', b',"time":"'
_LAST = len(b',"time":"2026-11-24T03:07:40.535012431+00:00"}\n')


class Known(NamedTuple):
    """What an ending told: the verdict, and the rule and tags that stand in it."""

    verdict: Verdict
    rule: str
    tags: tuple[str, ...]


def ending(body: bytes) -> bytes:
    """What stands between the output fields of an alert and its time; b"" if it is not written as Falco writes it."""
    begin, end = body.rfind(_BEGIN), body.rfind(_TIME)
    if (
        1 < begin < end <= begin + LONGEST
        and len(body) - end <= _LAST
        and body.count(b'"', end) == 4  # the time is the last key
        and body.endswith((b'"}', b'"}\n'))
        and body[begin - 1] == 0x7D  # } of the output fields, which hold something
        and body[begin - 2] != 0x7B
    ):
        return body[begin:end]
    return b""


class Endings(dict[bytes, Known]):
    """Endings that were seen, with what they told."""

    def remember(self, body: bytes, envelope: Envelope, verdict: Verdict) -> None:
        """Take note of what an alert turned out to be, if all alike are nothing else."""
        end = ending(body)
        if end and (verdict is NOTHING or verdict.relevant) and _is_plain(envelope):
            if len(self) >= REMEMBERED:
                self.clear()
            self[end] = Known(verdict, envelope.rule, envelope.tags)


def _is_plain(envelope: Envelope) -> bool:
    try:
        envelope.check()
    except AlertError:
        return False
    return not envelope.oddities() and len(envelope.rule) <= LONGEST_NAME
