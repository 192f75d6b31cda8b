"""Patterns over names and over the words of a command. They take time linear in the text, and cover nothing unseen.

A pattern that says what is normal must not cover what an intruder appends or slips in, so a wildcard stands for no
option (`tar *` and `--checkpoint-action=exec=sh`), for no way out of a folder (`..`), and in code that a shell or an
interpreter is given as an argument (`sh -c`) for none of the characters that mean something there.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from sidecar.meaning.program import Program
from sidecar.meaning.tables import base_name

SHELL_CHARACTERS = frozenset(";&|<>`$(){}[]!#'\"\\~*?")
"""What a wildcard never stands for in code that is an argument."""

ANY_SHELL = "sh"
"""As a program: any shell."""


class Glob(Struct, frozen=True):
    """A text in which `*` stands for any characters, none included."""

    parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Glob":
        """The pattern that a text describes."""
        return cls(tuple(text.split("*")))

    @property
    def is_literal(self) -> bool:
        """Whether it describes one text only."""
        return len(self.parts) == 1

    def captured(self, text: str) -> tuple[str, ...] | None:
        """What each wildcard stands for in a text; None if the text is another."""
        first, *rest = self.parts
        if not rest:
            return () if text == first else None
        last = rest.pop()
        if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
            return None
        at, end = len(first), len(text) - len(last)
        found = []
        for part in rest:
            next_at = text.find(part, at, end)
            if next_at < 0:
                return None
            found.append(text[at:next_at])
            at = next_at + len(part)
        return (*found, text[at:end])

    def matches(self, text: str) -> bool:
        """Whether it describes a text."""
        return self.captured(text) is not None


ANY = Glob.parse("*")


class Command(Struct, frozen=True):
    """A whole command: its program, its words, and whether any further words may follow."""

    program: Glob
    words: tuple[Glob, ...]
    is_open: bool

    @classmethod
    def parse(cls, text: str) -> "Command":
        """The command that a text describes."""
        program, *words = text.split()
        is_open = bool(words) and words[-1] == "**"
        globs = tuple(Glob.parse(word) for word in (words[:-1] if is_open else words))
        return cls(Glob.parse(program), globs, is_open)

    def matches(self, program: Program) -> bool:
        """Whether a program is this one, called like this."""
        words = program.words
        if len(words) < len(self.words) or (len(words) > len(self.words) and not self.is_open):
            return False
        if not self._is_program(program):
            return False
        is_read = program.has_inline_code or program.reads_code
        if not all(_stands_for(glob, word, is_read=is_read) for glob, word in zip(self.words, words, strict=False)):
            return False
        return all(_stands_for(ANY, word, is_read=is_read) for word in words[len(self.words) :])

    def _is_program(self, program: Program) -> bool:
        if self.program.parts == (ANY_SHELL,):
            return "shell" in program.kinds
        is_path = any("/" in part for part in self.program.parts)
        return self.program.matches(program.file if is_path else program.name)


def _stands_for(glob: Glob, word: str, *, is_read: bool) -> bool:
    captured = glob.captured(word)
    if captured is None:
        return False
    if (not glob.parts[0] and word.startswith("-")) or ".." in word.split("/"):
        return glob.is_literal
    return not (is_read and any(map(SHELL_CHARACTERS.intersection, captured)))


def is_name(globs: Iterable[Glob], names: Sequence[str]) -> bool:
    """Whether one of these patterns describes one of the names, or the base name of one that is a path."""
    return any(glob.matches(name) or glob.matches(base_name(name)) for glob in globs for name in names)
