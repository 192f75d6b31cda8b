"""The packed field: who the process of an alert is and descends from, in one text. Its format is in plugin/FORMAT.md.

The Falco plugin `lineage` gives it exactly, as it saw every fork. Falco alone gives the same text of its own fields, a
guess: the parents of today. The first character says which. Text stands behind all numbers, the oldest ancestor's
first, so no name that an intruder chooses can shift what stands before it.
"""

from typing import Literal

from msgspec import Struct

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

TOLERANCE = 1_000_000_000
"""Nanoseconds by which two start times of one process may differ: those of processes older than Falco come from /proc,
in steps of 10 ms, and move when Falco restarts."""

_ABSENT = frozenset(("", "<NA>", "null"))
_LONGEST_NAME = 15
_NUMBERS = 7
_PARTS = 11


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

    `missing` ancestors were left out between the oldest and the nearest ones.
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

    @property
    def has_lost_forks(self) -> bool:
        """Whether some of it stems from a time after events were dropped."""
        return any(ancestor.origin == "l" for ancestor in self.ancestors)


def is_same_process(pid: int, start: int, other_pid: int, other_start: int) -> bool:
    """Whether two sightings are of one process; an unknown start (0) fits any."""
    return pid == other_pid and (not start or not other_start or abs(start - other_start) < TOLERANCE)


def decode(text: str) -> Ancestry | None:
    """Decode a packed field. None if it is of another version, or is none."""
    if text[:3] not in ("=1;", "?1;"):
        return None
    parts = text.split(";", _PARTS - 1)
    if len(parts) < _PARTS:
        return None
    try:
        pid, start, session, terminal, login, vpid = map(_number, parts[1:_NUMBERS])
        missing, numbers = _ancestors(parts[9])
    except ValueError:
        return None
    images = _images(parts[10], len(numbers) + 1)
    ancestors = [
        Ancestor(each_pid, each_start, *image, origin, ports)
        for (each_pid, each_start, origin, ports), image in zip(numbers, images, strict=False)
        if each_pid
    ]
    return Ancestry(
        text[0] == "=",
        pid,
        start,
        session,
        terminal,
        login if parts[5] not in _ABSENT else -1,
        vpid,
        *images[-1],
        "e" in parts[8],
        missing,
        tuple(reversed(ancestors)),
    )


def _number(text: str) -> int:
    if text in _ABSENT:
        return 0
    if len(text) > 20 or not text.removeprefix("-").isdecimal() or not text.isascii():
        raise ValueError(text)
    return int(text)


def _ancestors(text: str) -> tuple[int, list[tuple[int, int, Origin, tuple[int, ...]]]]:
    """How many are missing, and the numbers of the others, oldest first."""
    missing = 0
    found: list[tuple[int, int, Origin, tuple[int, ...]]] = []
    for word in text.split():
        if word[0] == "+":
            missing = _number(word[1:])
            continue
        pid, start, origin, ports = (*word.split(":"), "", "", "")[:4]
        if origin not in ("", "f", "p", "l"):
            raise ValueError(word)
        held = tuple(_number(port) for port in ports.split(",") if port)
        found.append((_number(pid), _number(start), origin, held))  # type: ignore[arg-type]
    return missing, found


def _images(text: str, count: int) -> list[tuple[str, str]]:
    """Name and file of as many processes, oldest first. One whose text is missing has neither."""
    words = [word if word not in _ABSENT else "" for word in text.split("|")][: 2 * count]
    words += [""] * (2 * count - len(words))
    return [(name or _base(file), file) for file, name in zip(words[::2], words[1::2], strict=True)]


def _base(file: str) -> str:
    return file.rpartition("/")[2][:_LONGEST_NAME]
