"""Verdicts by the last bytes of an alert: ninety-eight of a hundred need no decoding.

Falco sorts an alert's keys, so every alert ends like this::

    ...}  ,"priority":"...","rule":"...","source":"...","tags":[...],"time":"  2026-11-24T03:07:40.535012431Z"}
    ----  -------------------------------------------------------------------  --------------------------------
      |                               suffix                                           TIME_BYTES
      the end of `output_fields`

The suffix is the same each time a Falco rule fires, so whatever follows from it is worked out once. Only an alert that
is laid out exactly like that is recognised: quotes inside texts are escaped, so no text that an attacker controls can
look like a suffix.
"""

from msgspec import Struct

from sidecar.alerts.classify import NOTHING, Verdict
from sidecar.alerts.decode import Envelope
from sidecar.errors import AlertError
from sidecar.model import MAX_NAME_CHARS

MAX_ENTRIES = 1024
"""Suffixes that are kept. A Falco has a few hundred rules."""

MAX_SUFFIX_BYTES = 1024

TIME_BYTES = len('2026-11-24T03:07:40.535012431Z"}')

_FIRST_KEY = b',"priority":"'
_LAST_KEY = b',"time":"'


class CachedVerdict(Struct, frozen=True):
    """What a suffix determines: the verdict, and the rule and tags that are part of it."""

    verdict: Verdict
    rule: str
    tags: tuple[str, ...]


ORDINARY = CachedVerdict(NOTHING, "", ())
"""No correlation rule cares about the alert, and nothing is anomalous about it."""


class VerdictCache:
    """The verdicts of suffixes that were seen before."""

    def __init__(self) -> None:
        self._verdicts: dict[bytes, CachedVerdict] = {}

    def __len__(self) -> int:
        return len(self._verdicts)

    def lookup(self, body: bytes) -> CachedVerdict | None:
        """The verdict for an alert, if its suffix is known."""
        cached = self._verdicts.get(body[body.rfind(_FIRST_KEY) - 2 : -TIME_BYTES])  # inline: 300 instructions an alert
        if cached is None or body.count(b'"', -TIME_BYTES) != 1:  # more quotes: another key follows the time
            return None
        return cached

    def store(self, body: bytes, envelope: Envelope, verdict: Verdict) -> None:
        """Keep the verdict of an alert, if every alert with the same suffix must get the same one."""
        if not (verdict is NOTHING or verdict.relevant) or envelope.anomalies():
            return
        suffix = _suffix(body)
        is_laid_out = suffix[1:2] == b"}" and suffix.endswith(_LAST_KEY) and len(suffix) <= MAX_SUFFIX_BYTES
        if not is_laid_out or len(envelope.rule) > MAX_NAME_CHARS:
            return
        try:
            envelope.check()
            cached = CachedVerdict(verdict, envelope.rule, envelope.tags)
        except AlertError:
            return
        if len(self._verdicts) >= MAX_ENTRIES:
            self._verdicts.clear()
        self._verdicts[suffix] = cached if verdict.relevant else ORDINARY


def _suffix(body: bytes) -> bytes:
    """The bytes between the output fields and the time, with the last two bytes of the fields in front."""
    return body[body.rfind(_FIRST_KEY) - 2 : -TIME_BYTES]
