"""Secrets in the options of well-known programs: `mysql -psecret`, `curl -u user:secret`, `echo secret | sudo -S`.

A single letter says nothing by itself (`docker run -p 8080:80`), so the program that a command line runs decides. Which
program takes what is data: `programs` in `secrets.toml`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from msgspec import Struct

QUOTES = "\"'"
SHORTEST_ATTACHED = 2
"""Characters of a secret that is glued to its option: `-p1` is rather a number."""

MAX_PROGRAMS = 8
"""Programs of one command that are looked at; real ones have two or three (`sudo docker exec db mysql`)."""

MAX_WORDS_BEFORE_PROGRAM = 12
"""Words of `sudo`, its options, and the like in front of the program that reads a secret from its standard input."""

DEEPEST = 2
"""Command lines inside quoted words of command lines that are looked through."""

_PIECE = re.compile(r"""\|\|?|&&|;(?=\s|$)|<<<|(?:[^\s|"'&;<]++|;(?!\s|$)|&(?!&)|<(?!<<)|"[^"]*"|'[^']*'|["'])++""")
_WRAPPERS = frozenset(
    ("sudo", "env", "exec", "command", "time", "nohup", "nice", "sh", "bash", "-c", "/bin/sh", "/bin/bash"),
)
_SIGNS = frozenset("-/")
_OPERATORS = frozenset(("|", "||", "&&", ";"))
_SEPARATORS = "/\"'|;&()`"
_LOGON = re.compile(r"(?:userid=)?[\w.$#]{1,64}/(?P<s>[^\s@/]{1,128})(?=@|$)")
_FILE = re.compile(r"\.\w{2,4}$")

Span = tuple[int, int]
"""Start and end of a secret in its text."""


class Program(Struct, forbid_unknown_fields=True):
    """How some programs take secrets; `secrets.toml` says what each key means."""

    names: list[str]
    masked: list[str] = []
    kept: list[str] = []
    options: list[str] = []
    separate: list[str] = []
    attached: list[str] = []
    user_options: list[str] = []
    harmless_options: list[str] = []
    sign: str = ":"
    flags: str = ""
    command: str = ""
    after: list[str] = []
    logon: bool = False
    last_word: str = ""
    stdin: list[str] = []
    stdin_sign: str = ""


class Word(NamedTuple):
    """A word without the quotes around it, and where it starts in the text."""

    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


class Segment(NamedTuple):
    """The words of one command, and whether the command before it is piped into it."""

    words: list[Word]
    is_piped: bool


class Programs:
    """All rows of the table, by the file name of the program."""

    def __init__(self, rows: Sequence[Program]) -> None:
        self._harmless_options = frozenset(option for row in rows for option in row.harmless_options)
        self._by_name: dict[str, list[Program]] = {}
        self._triggers: dict[str, re.Pattern[str]] = {}
        self._words = {word for row in rows for word in (*row.separate, *row.options, *row.user_options)}
        """Words that are options of some program; every other one that is not led by a sign is skipped at once."""
        for row in rows:
            for name in row.names:
                self._by_name.setdefault(name, []).append(row)

    def are_named(self, text: str) -> bool:
        """Whether one of the programs is named."""
        return not self._by_name.keys().isdisjoint(_names(text))

    def may_hold_secrets(self, text: str) -> bool:
        """Whether one of the programs is named, with an option that takes a secret: a quick look before `secrets`."""
        return any(self._trigger(name).search(text) for name in self._by_name.keys() & _names(text))

    def _trigger(self, name: str) -> re.Pattern[str]:
        trigger = self._triggers.get(name)
        if trigger is None:
            trigger = self._triggers[name] = re.compile(
                _either([each for row in self._by_name[name] for each in _traces(row)])
            )
        return trigger

    def declare_harmless(self, option: str, before: str) -> bool:
        """Whether a program in the text before an option uses it for something harmless."""
        if option not in self._harmless_options:
            return False
        return any(option in row.harmless_options for word in _names(before) for row in self._by_name.get(word, ()))

    def secrets(self, text: str, offset: int = 0, depth: int = 0) -> Iterator[Span]:
        """Where the secrets of a command line are; spans may overlap."""
        before: Segment | None = None
        has_here_string = "<<<" in text
        for segment in _segments(text, offset):
            yield from self._in_segment(segment, depth)
            if segment.is_piped or has_here_string:
                for row in self._run(segment.words):
                    yield from _from_stdin(row, before, segment)
            before = segment

    def _run(self, words: Sequence[Word]) -> Iterator[Program]:
        """The rows of the program that these words run, also behind `sudo` and the like."""
        follows_option = False
        for word in words[:MAX_WORDS_BEFORE_PROGRAM]:
            named = self._named(word.text)
            yield from (row for row in named if not row.command or _has_command(row, words))
            if not (follows_option or word.text[:1] == "-" or "=" in word.text or word.text in _WRAPPERS):
                return
            follows_option = word.text[:1] == "-"

    def _named(self, word: str) -> list[Program]:
        return self._by_name.get(word.lstrip("$({`").rpartition("/")[2], []) if word[:1] != "-" else []

    def _in_segment(self, segment: Segment, depth: int) -> Iterator[Span]:
        words = segment.words
        rows: list[Program] = []
        programs = 0
        seen = {""}
        for number, word in enumerate(words):
            if " " in word.text and depth < DEEPEST:
                yield from self.secrets(word.text, word.start, depth + 1)
            named = self._named(word.text)
            seen.add(word.text)
            if named and programs < MAX_PROGRAMS and not (number and words[number - 1].text in ("-name", "-iname")):
                rows = named
                programs += 1
                for row in rows:
                    yield from _in_operands(row, words[number + 1 :])
            elif rows and (word.text[:1] in _SIGNS or word.text in self._words):
                for row in rows:
                    if row.command in seen:
                        yield from _in_option(row, word, words[number + 1] if number + 1 < len(words) else None)


def _either(traces: Sequence[str]) -> str:
    """A pattern of any of these at the start of a word: one that begins with `-` is found at a fifth of the cost."""
    if all(trace[:1] == "-" for trace in traces):
        return rf"-(?<![\w-]-)(?:{'|'.join([trace[1:] for trace in traces])})"
    return rf"(?<![\w-])(?:{'|'.join(traces)})"


def _traces(row: Program) -> list[str]:
    """Patterns of what at least stands in a command line where the row finds a secret."""
    if row.after or row.last_word or row.logon or row.stdin:
        return [""]
    given = (*row.options, *row.user_options)
    letters = "".join(option[1] for option in given if len(option) == 2)
    cluster = [f"-[{re.escape(row.flags)}]*[{re.escape(letters)}]"] if letters else []
    words = [re.escape(word).replace(r"\-", "-") for word in (*given, *row.separate, *row.attached)]
    return [*cluster, *words]


def _names(text: str) -> list[str]:
    """All words of a text, and of its paths: a quarter of the time that `str.translate` takes."""
    for separator in _SEPARATORS:
        if separator in text:
            text = text.replace(separator, " ")
    return text.split()


def _segments(text: str, offset: int) -> Iterator[Segment]:
    words: list[Word] = []
    is_piped = False
    for found in _PIECE.finditer(text):
        piece = found[0]
        if piece in _OPERATORS:
            yield Segment(words, is_piped)
            words = []
            is_piped = piece == "|"
        else:
            left = len(piece) - len(piece.lstrip(QUOTES))
            words.append(Word(piece.strip(QUOTES), offset + found.start() + left))
    yield Segment(words, is_piped)


def _in_option(row: Program, word: Word, following: Word | None) -> Iterator[Span]:
    """The secret that an option brings: in the next word, behind `=`, or glued to it."""
    text = word.text
    name, equals, _ = text.partition("=")
    if text in row.options or text in row.separate or text in row.user_options:
        yield from _in_next(row, following, is_user=text in row.user_options)
    elif equals and (name in row.options or name in row.separate):
        yield word.start + len(name) + 1, word.end
    elif equals and name in row.user_options:
        yield from _behind_sign(row, word, len(name) + 1)
    elif attached := next((each for each in row.attached if text.startswith(each)), ""):
        yield from _glued(word, len(attached))
    elif text[:1] == "-" and text[1:2] not in ("-", ""):
        yield from _in_cluster(row, word, following)


def _in_cluster(row: Program, word: Word, following: Word | None) -> Iterator[Span]:
    """One-letter options in one word, the last of which may have a value: `-sSfu user:secret`."""
    for at, letter in enumerate(word.text[1:], 2):
        option = "-" + letter
        if option in row.options or option in row.user_options:
            is_user = option in row.user_options
            if at == len(word.text):
                yield from _in_next(row, following, is_user=is_user)
            elif is_user:
                yield from _behind_sign(row, word, at)
            else:
                yield from _glued(word, at)
            return
        if letter not in row.flags:
            return


def _in_next(row: Program, word: Word | None, *, is_user: bool) -> Iterator[Span]:
    if word is None or word.text[:1] in ("-", ""):
        return
    if is_user:
        yield from _behind_sign(row, word, 0)
    else:
        yield word.start, word.end


def _glued(word: Word, at: int) -> Iterator[Span]:
    secret = word.text[at:].lstrip(QUOTES)
    if len(secret) >= SHORTEST_ATTACHED:
        yield word.end - len(secret), word.end


def _behind_sign(row: Program, word: Word, at: int) -> Iterator[Span]:
    found = word.text.find(row.sign, at)
    if found >= 0 and found + len(row.sign) < len(word.text):
        yield word.start + found + len(row.sign), word.end


def _in_operands(row: Program, words: Sequence[Word]) -> Iterator[Span]:
    """Secrets that are words of their own."""
    if not (row.after or row.last_word or row.logon):
        return
    operands = [word for word in words if word.text[:1] not in ("-", "", "<", ">")]
    if row.command:
        commands = [number for number, word in enumerate(operands) if word.text == row.command]
        operands = operands[commands[0] + 1 :] if commands else []
    for word, following in pairwise(operands):
        if word.text in row.after and "=" not in following.text and len(following.text) > SHORTEST_ATTACHED:
            yield following.start, following.end
    if row.last_word and len(operands) > 1 and (row.last_word == "*" or _has_flag(words, row.last_word)):
        yield operands[-1].start, operands[-1].end
    if row.logon:
        yield from _in_logons(operands)


def _in_logons(words: Iterable[Word]) -> Iterator[Span]:
    for word in words:
        logon = _LOGON.match(word.text)
        if logon and (logon.end() < len(word.text) or not _FILE.search(word.text)):
            yield word.start + logon.start("s"), word.start + logon.end("s")


def _has_command(row: Program, words: Iterable[Word]) -> bool:
    return any(word.text == row.command for word in words)


def _has_flag(words: Iterable[Word], letter: str) -> bool:
    return any(word.text[:1] == "-" and word.text[1:2] != "-" and letter in word.text for word in words)


def _from_stdin(row: Program, before: Segment | None, segment: Segment) -> Iterator[Span]:
    """What `echo SECRET |` passes to a program that reads a secret from its standard input, or `<<< SECRET`."""
    texts = [word.text for word in segment.words]
    if not any(
        given == "*" or given in texts or (len(given) == 2 and given[0] == "-" and _has_flag(segment.words, given[1]))
        for given in row.stdin
    ):
        return
    if "<<<" in texts:
        yield from _passed(row, segment.words[texts.index("<<<") + 1 :])
    elif segment.is_piped and before is not None:
        names = [word.text.rpartition("/")[2] for word in before.words]
        writers = [number for number, name in enumerate(names) if name in ("echo", "printf")]
        if writers:
            yield from _passed(row, before.words[writers[-1] + 1 :])


def _passed(row: Program, words: Sequence[Word]) -> Iterator[Span]:
    words = [word for word in words if word.text[:1] != "-"]
    if len(words) > 1 and "%" in words[0].text:
        words = words[1:]
    if not words:
        return
    at = words[0].text.find(row.stdin_sign) + len(row.stdin_sign) if row.stdin_sign else 0
    if words[0].start + at < words[-1].end and (at or not row.stdin_sign):
        yield words[0].start + at, words[-1].end
