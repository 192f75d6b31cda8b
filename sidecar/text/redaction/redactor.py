"""Masks secrets in texts before anything is kept or sent: `***` and a keyed digest of eight digits.

The digest lets a reader see that two masks hide the same secret, and nobody else find out which. What a secret looks
like is data: `secrets.toml`.
"""

import hmac
import re
import secrets
from collections.abc import Iterable, Sequence

from sidecar.text.redaction.patterns import REFERENCE, Patterns, Rule, shipped

MASK = "***"

MAX_REMEMBERED_TEXTS = 4096
MAX_REMEMBERED_CHARS = 256
"""Characters of a text without a secret that is remembered as such."""

SHORTEST_TOKEN_CHARS = 15

_MASKED = re.compile(r"\*{3}[0-9a-f]{8}")
_is_word = re.compile(r"[\w./-]*", re.ASCII).fullmatch
"""If it is shorter than any token, there is no secret in it: most names of processes and containers."""


class Redactor:
    """Masks secrets in text.

    `key` is that of the digests: with the same key the same secret has the same digest. `patterns` says what secrets
    look like, by default what ships with the service.
    """

    def __init__(self, key: str = "", patterns: Patterns | None = None) -> None:
        self._key = key.encode() or secrets.token_bytes(32)
        self._patterns = patterns or shipped()
        self.harmless: set[str | None] = {None}
        """Texts without a secret, since command lines and names repeat; None among them, for fields that are absent."""

    def __call__(self, text: str) -> str:
        """The text with every secret that was recognised masked."""
        masked = text if len(text) < SHORTEST_TOKEN_CHARS and _is_word(text) else self._masked(text)
        if masked == text and len(text) <= MAX_REMEMBERED_CHARS:
            if len(self.harmless) >= MAX_REMEMBERED_TEXTS:
                self.harmless.clear()
                self.harmless.add(None)
            self.harmless.add(text)
        return masked

    def _masked(self, text: str) -> str:
        patterns = self._patterns
        if patterns.any_token_hint.is_in(text):
            text = patterns.tokens.sub(self._replace, text)
        low = text.lower()
        for hints, rules in patterns.rules if patterns.any_rule_hint.is_in(low) else ():
            for hint in hints:  # not a function, as a call for each of fifteen rows costs more than the look
                if hint in low:
                    text = self._apply(rules, text)
                    break
        if patterns.programs.may_hold_secrets(text):
            text = self._of_programs(text)
        return text

    def _apply(self, rules: Sequence[Rule], text: str) -> str:
        for rule in rules:
            if not rule.needs or _holds(text, rule.needs):
                text = rule.pattern.sub(self._replace, text)
        return text

    def mask(self, secret: str) -> str:
        """What stands in place of a secret."""
        return MASK + hmac.digest(self._key, secret.encode("utf-8", "replace"), "sha256")[:4].hex()

    def _replace(self, found: re.Match[str]) -> str:
        group = found.lastgroup or "s"
        secret = found[group]
        if _MASKED.match(secret):
            return found[0]
        if "key" in found.re.groupindex and self._patterns.is_harmless(
            found["key"], secret, found.string, found.start("key")
        ):
            return found[0]
        start, end = found.start(group) - found.start(), found.end(group) - found.start()
        return found[0][:start] + self.mask(secret) + found[0][end:]

    def _of_programs(self, text: str) -> str:
        pieces: list[str] = []
        done = 0
        for start, end in sorted(set(self._patterns.programs.secrets(text))):
            if start >= done and not (_MASKED.match(text, start) or REFERENCE.match(text, start)):
                pieces += [text[done:start], self.mask(text[start:end])]
                done = end
        return "".join([*pieces, text[done:]])


def _holds(text: str, hints: Iterable[str]) -> bool:
    for hint in hints:  # noqa: SIM110 - any() takes twice as long, and this is looked at for every new command line
        if hint in text:
            return True
    return False
