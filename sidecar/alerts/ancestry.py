"""The packed field: who the process of an alert is and descends from, in one text. Its format is in plugin/FORMAT.md.

The Falco plugin `lineage` gives it exactly, as it saw every fork. Falco alone gives the same text of its own fields, a
guess: the parents of today. The first character says which. Text stands behind all numbers, the oldest ancestor's
first, so no name that an intruder chooses can shift what stands before it.
"""

import re
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal

from msgspec import Struct

from sidecar.model import Fields

Origin = Literal["f", "p", "l", ""]
"""How a process came to be known: its fork was seen, /proc showed it when Falco started, its fork was lost. "" in a
guess."""

GUESS = ";".join(
    (
        "?1",
        "%proc.pid",
        "%proc.pid.ts",
        "%proc.sid",
        "%proc.tty",
        "%user.loginuid",
        "%proc.vpid",
        "",
        "",
        " ".join([*(f"%proc.apid[{above}]:" for above in range(7, 1, -1)), "%proc.ppid:%proc.ppid.ts"]),
        "|".join(
            [
                *(f"%proc.aexepath[{above}]|%proc.aname[{above}]" for above in range(7, 0, -1)),
                "%proc.exepath|%proc.name",
            ]
        ),
    )
)
"""The format with which Falco makes a guess (`append_output`, `extra_fields`)."""

GUESSED = frozenset(re.findall(r"%([\w.]+(?:\[\d\])?)", GUESS))
"""Falco's names of the fields that a guess holds."""

TOLERANCE = 1_000_000_000
"""Nanoseconds by which two start times of one process may differ: those of processes older than Falco come from /proc,
in steps of 10 ms, and move when Falco restarts."""

CACHED_CHAINS = 128
"""Decoded lists of ancestors that are kept: siblings share theirs."""

_usual_head = re.compile(
    r"[=?]1;(\d{1,20});(\d{1,20});(-?\d{1,20});(-?\d{1,20});(-?\d{1,20});(\d{1,20});\d*;([a-z]*);([^;]*);", re.ASCII
).match

_ABSENT = frozenset(("", "<NA>", "null"))
_LONGEST_NAME = 15
_NUMBERS = 7
_PARTS = 11
_CLASSIC = 6


class Ancestor(Struct, frozen=True, gc=False):
    """A process as it was when it forked the next one.

    `start` is in nanoseconds, 0 unknown; `ports` are the TCP ports at which it holds a server socket.
    """

    pid: int
    start: int
    name: str
    file: str
    origin: Origin = ""
    ports: tuple[int, ...] = ()


class Ancestry(Struct, frozen=True):
    """A process and its ancestors, the parent first. Numbers are 0 where they are unknown, `login` is -1.

    `missing` ancestors were left out in front of `ancestors[gap]`, between the nearest and the oldest ones.
    """

    is_exact: bool
    pid: int
    start: int
    session: int
    terminal: int
    login: int
    vpid: int
    name: str
    file: str
    has_entered: bool
    missing: int
    ancestors: tuple[Ancestor, ...]
    origin: Origin = ""
    gap: int = 0

    @property
    def has_lost_forks(self) -> bool:
        """Whether some of it stems from a time after events were dropped."""
        return self.origin == "l" or any(ancestor.origin == "l" for ancestor in self.ancestors)


def is_same_start(start: int, other: int) -> bool:
    """Whether two start times (ns) may be those of one process; an unknown one (0) fits any."""
    return not start or not other or abs(start - other) < TOLERANCE


def is_same_process(pid: int, start: int, other_pid: int, other_start: int) -> bool:
    """Whether two sightings are of one process; an unknown start (0) fits any."""
    return pid == other_pid and is_same_start(start, other_start)


def decode(text: str) -> Ancestry | None:
    """Decode a packed field. None if it is of another version, or is none."""
    if text[:3] not in ("=1;", "?1;"):
        return None
    head = _usual_head(text)
    if head is not None:  # nearly always; a third of the time
        found: Sequence[str] = head.groups()
        with suppress(ValueError):
            return _ancestry(
                text[0] == "=", [int(number) for number in found[:6]], found[6], found[7], text[head.end() :]
            )
        return None
    parts = text.split(";", _PARTS - 1)
    if len(parts) < _PARTS:
        return None
    try:
        own = [*map(_number, parts[1:_NUMBERS])]
        if parts[5] in _ABSENT:
            own[4] = -1
        return _ancestry(text[0] == "=", own, parts[8], parts[9], parts[10])
    except ValueError:
        return None


def _ancestry(is_exact: bool, numbers_of_own: Sequence[int], how: str, numbers: str, images: str) -> Ancestry:  # noqa: FBT001
    missing, gap, ancestors, file, name = _decoded_texts(numbers, images)
    origin: Any = how[0] if how[:1] in ("f", "p", "l") else ""
    pid, start, session, terminal, login, vpid = numbers_of_own
    own = pid, start, session, terminal, login, vpid, name, file
    return Ancestry(is_exact, *own, "e" in how, missing, ancestors, origin, gap)


def unpack(fields: Fields) -> None:
    """Fill in the absent fields of an alert from its packed field. A guess holds nothing else, so it is dropped."""
    text = fields.packed or ""
    if fields.pid and fields.start and text.startswith("=1;"):
        return  # the rest was asked for too
    packed = decode(text)
    if packed is None or not packed.is_exact:
        fields.packed = None
    if packed is None or (fields.pid and fields.pid != packed.pid):
        return
    fields.pid = packed.pid
    fields.start = fields.start or packed.start or None
    fields.vpid = fields.vpid or packed.vpid or None
    fields.sid = packed.session if fields.sid is None else fields.sid
    fields.tty = packed.terminal if fields.tty is None else fields.tty
    fields.loginuid = packed.login if fields.loginuid is None else fields.loginuid
    fields.name, fields.exepath = fields.name or packed.name, fields.exepath or packed.file
    if not packed.ancestors or (fields.ppid and fields.ppid != packed.ancestors[0].pid):
        return
    parent = packed.ancestors[0]
    fields.parent_start = fields.parent_start or parent.start or None
    if fields.ppid:
        return
    fields.ppid = parent.pid
    fields.pname, fields.pexepath = fields.pname or parent.name, fields.pexepath or parent.file
    for above, ancestor in enumerate(packed.ancestors[1:_CLASSIC], 2):
        setattr(fields, f"apid{above}", ancestor.pid)
        setattr(fields, f"aname{above}", ancestor.name)
        setattr(fields, f"aexepath{above}", ancestor.file)


def redacted(text: str, redact: Callable[[str], str], harmless: AbstractSet[str | None]) -> str:
    """A packed field with the secrets in each of its texts masked; `harmless` holds texts that have none."""
    parts = text.split(";", _PARTS - 1)
    words = parts[-1].split("|")
    if harmless >= set(words):
        return text
    masked = "|".join([redact(word).replace("|", "?") for word in words])
    return ";".join([*parts[:-1], masked])


def _number(text: str) -> int:
    if text in _ABSENT:
        return 0
    if len(text) > 20 or not text.removeprefix("-").isdecimal() or not text.isascii():
        raise ValueError(text)
    return int(text)


Numbers = tuple[int, int, tuple[tuple[int, int, Origin, tuple[int, ...]], ...]]
"""How many ancestors are missing, behind how many of the oldest, and pid, start, origin and ports of each."""


def _decoded_texts(numbers: str, images: str) -> tuple[int, int, tuple[Ancestor, ...], str, str]:
    """How many ancestors are missing, in front of which, the ancestors, and file and name of the process itself."""
    count = len(_decoded_numbers(numbers)[2])
    words = images.split("|", 2 * count)
    own = words[2 * count].split("|", 2) if len(words) > 2 * count else []
    above = images[: len(images) - len(words[2 * count])] if own else images
    missing, gap, ancestors = _chain(numbers, above)
    file, name = (word if word not in _ABSENT else "" for word in (*own, "", "")[:2])
    return missing, gap, ancestors, file, name or _base(file)


@lru_cache(CACHED_CHAINS)
def _chain(numbers: str, images: str) -> tuple[int, int, tuple[Ancestor, ...]]:
    missing, oldest, found = _decoded_numbers(numbers)
    words = [word if word not in _ABSENT else "" for word in images.split("|")][: 2 * len(found)]
    words += [""] * (2 * len(found) - len(words))
    ancestors = [
        Ancestor(pid, start, name or _base(file), file, origin, ports)
        for (pid, start, origin, ports), file, name in zip(found, words[::2], words[1::2], strict=True)
        if pid
    ]
    return missing, len(ancestors) - oldest if missing else 0, tuple(reversed(ancestors))


@lru_cache(CACHED_CHAINS)
def _decoded_numbers(text: str) -> Numbers:
    missing = oldest = 0
    found: list[tuple[int, int, Origin, tuple[int, ...]]] = []
    for word in text.split():
        if word[0] == "+":
            missing = _number(word[1:])
            oldest = len(found)
            continue
        pid, start, origin, ports = (*word.split(":"), "", "", "")[:4]
        if origin not in ("", "f", "p", "l"):
            raise ValueError(word)
        held = tuple(_number(port) for port in ports.split(",") if port)
        found.append((_number(pid), _number(start), origin, held))  # type: ignore[arg-type]
    return missing, oldest, tuple(found)


def _base(file: str) -> str:
    return file.rpartition("/")[2][:_LONGEST_NAME]
