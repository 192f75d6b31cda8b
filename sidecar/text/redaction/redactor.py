"""Secrets in command lines are masked before anything is kept or sent: `***` and a keyed digest of eight digits.

The digest lets a reader see that two masks hide the same secret, and nobody else find out which. What a secret looks
like is in `secret_patterns.py` and `secret_options.py`.
"""

import hmac
import re
import secrets
from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter

from sidecar.text.redaction.patterns import HINTS, REFERENCE, RULES, TOKENS, is_innocent
from sidecar.text.redaction.programs import may_hold_passwords, passwords

MASK = "***"

REMEMBERED, SHORT = 4096, 256
"""Texts without a secret, and up to so many characters, that are remembered."""

_BY_HINTS = [(hints, [*rules]) for hints, rules in groupby(RULES, attrgetter("hints"))]

_MASKED = re.compile(r"\*{3}[0-9a-f]{8}")
_is_word = re.compile(r"[\w./-]*", re.ASCII).fullmatch
"""If it is shorter than any token, there is no secret in it: most names of processes and containers."""


class Redactor:
    """Masks secrets in text. `key` is that of the digests: with the same key the same secret has the same digest."""

    def __init__(self, key: str = "") -> None:
        self._key = key.encode() or secrets.token_bytes(32)
        self.harmless: set[str | None] = {None}
        """Texts without a secret, since command lines and names repeat; None among them, for fields that are absent."""

    def __call__(self, text: str) -> str:
        """The text with every secret that was recognised masked."""
        masked = text if len(text) < 15 and _is_word(text) else self._masked(text)
        if masked == text and len(text) <= SHORT:
            if len(self.harmless) >= REMEMBERED:
                self.harmless.clear()
                self.harmless.add(None)
            self.harmless.add(text)
        return masked

    def _masked(self, text: str) -> str:
        if _holds(text, HINTS):
            text = TOKENS.sub(self._replace, text)
        low = text.lower()
        for hints, rules in _BY_HINTS:
            if _holds(low, hints):
                for rule in rules:
                    if not rule.needs or _holds(text, rule.needs):
                        text = rule.pattern.sub(self._replace, text)
        if may_hold_passwords(text):
            text = self._of_programs(text)
        return text

    def mask(self, secret: str) -> str:
        """What stands in place of a secret."""
        return MASK + hmac.digest(self._key, secret.encode("utf-8", "replace"), "sha256")[:4].hex()

    def _replace(self, found: re.Match[str]) -> str:
        group = found.lastgroup or "s"
        secret = found[group]
        if _MASKED.match(secret) or ("key" in found.re.groupindex and is_innocent(found["key"], secret, found[0])):
            return found[0]
        start, end = found.start(group) - found.start(), found.end(group) - found.start()
        return found[0][:start] + self.mask(secret) + found[0][end:]

    def _of_programs(self, text: str) -> str:
        pieces, done = [], 0
        for start, end in passwords(text):
            if not (_MASKED.match(text, start) or REFERENCE.match(text, start)):
                pieces += [text[done:start], self.mask(text[start:end])]
                done = end
        return "".join([*pieces, text[done:]])


def _holds(text: str, hints: Iterable[str]) -> bool:
    for hint in hints:  # noqa: SIM110 - any() takes twice as long, and this is looked at for every new command line
        if hint in text:
            return True
    return False
