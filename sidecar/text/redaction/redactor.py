"""Masks secrets in texts before anything is kept or sent: `***` and a keyed digest of eight digits.

The digest lets a reader see that two masks hide the same secret, and nobody else find out which. What a secret looks
like is data: `secrets.toml`.
"""

import hmac
import re
import secrets
from collections.abc import Iterable, Sequence

from sidecar.text.redaction.patterns import PROGRAM, REFERENCE, RULES, TOKEN, Patterns, Rule, shipped

MASK = "***"

MAX_REMEMBERED_TEXTS = 4096
MAX_REMEMBERED_CHARS = 256
"""Characters of a text without a secret that is remembered as such."""

MAX_REMEMBERED_WORD_CHARS = 96
MAX_NEW_WORDS = 16
"""Words of a text that are looked at one by one, and remembered."""

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
        self._words: dict[str, int] = {}
        """The traces of secrets in words that were kept as they are: command lines share most of theirs."""

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
        words = text.split()
        looks = set(map(self._words.get, words))
        new: dict[str, int] = {}
        traces = 0
        if None in looks:
            unknown = set(words).difference(self._words)
            if len(unknown) <= MAX_NEW_WORDS:
                new = {word: self._patterns.traces(word) for word in unknown}
                looks.update(new.values())
            else:
                traces = self._patterns.traces(" ".join(unknown))
        for look in looks:
            traces |= look or 0
        masked = self._masked_where(text, traces) if traces else text
        if new and masked == text:  # no word of it is a secret
            self._remember(new)
        return masked

    def _remember(self, words: dict[str, int]) -> None:
        if len(self._words) >= MAX_REMEMBERED_TEXTS:
            self._words.clear()
        for word, traces in words.items():
            if len(word) <= MAX_REMEMBERED_WORD_CHARS and not word.isdecimal():
                self._words[word] = traces

    def _masked_where(self, text: str, traces: int) -> str:
        """The text with its secrets masked, looked for where its words have traces of one."""
        patterns = self._patterns
        if traces & TOKEN:
            text = patterns.tokens.sub(self._replace, text)
        if traces >= RULES:
            low = text.lower()
            for hints, rules in patterns.traced(traces):
                if _holds(low, hints):
                    text = self._apply(rules, text)
        if traces & PROGRAM and patterns.programs.may_hold_secrets(text):
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
