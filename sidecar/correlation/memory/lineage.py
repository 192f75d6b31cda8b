"""Who descends from whom, as far as alerts ever showed it: the memory that survives setsid, nohup and a parent's exit.

An alert names its process and up to six ancestors. When a process is orphaned the kernel gives it a new parent, and
later alerts show that one; here the first parent seen is kept, so ancestry that was visible once stays known.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from operator import itemgetter
from sys import intern
from typing import Any

from msgspec import Struct

from sidecar.aging_dict import Generations
from sidecar.model import Fields

VISIBLE = 7
"""Processes that one alert can name: its own and six ancestors."""

DEEPEST = 64
"""Steps that a walk towards the root takes at most; a loop made of reused pids ends here."""

RUNTIMES = frozenset(
    (
        "containerd-shim",
        "containerd-shim-runc-v2",
        "runc",
        "crun",
        "conmon",
        "conmonrs",
        "dockerd",
        "youki",
        "kata-agent",
        "docker-containerd-shim",
    ),
)
"""Processes outside a container that start its first process, or enter it. Names are cut at 15 characters."""

_RUNTIME_NAMES = frozenset(name[:15] for name in RUNTIMES) | RUNTIMES

HOST_INITS = frozenset(("systemd", "init"))

INITS = frozenset(("tini", "dumb-init", "docker-init", "catatonit", "pause", "init"))
"""First processes that start one child at the beginning and afterwards only inherit orphans."""


class Process(Struct, gc=False):
    """A remembered process. `parent` is the first it had, 0 unknown; `seen` the newest event time (ns)."""

    pid: int
    name: str
    start: int
    parent: int
    linked: int
    """Event time at which it had that parent: the earliest is the truest, since orphans are adopted later."""
    seen: int
    below: str = ""
    """The name that its parent had then; an entry script becomes the service, but what it started before is not its."""
    anchors: bool = False
    """A context hangs on it."""
    anchors_shell: bool = False
    """It gave an anchoring detection: what runs below it is not the service any more."""
    above_shell: bool = False
    """Such a process was started below it."""
    shown: int = 0
    """Stands for its own ancestors, as an alert of a child showed them last."""

    def update(self, start: int | None, parent: int | None, below: str | None, time: int) -> bool:
        """Take in another sight of the same process; says whether it told anything new of where it belongs."""
        news = False
        if parent and (not self.parent or time < self.linked):
            news = parent != self.parent
            self.parent, self.linked, self.below = parent, time, below or ""
        if start and not self.start:
            self.start, news = start, True
        self.seen = max(time, self.seen)
        return news


Sight = tuple[int, str | None, int | None, int | None, str | None]
"""A process as one alert showed it: pid, name, start time (ns), the parent's pid and name."""

SAME, MORE, FRESH, REPLACED = range(4)
"""What a sight told: nothing new, more of where the process belongs, that it exists, that its pid was another's."""


class Learned(Struct, gc=False):
    """What an alert told: its process and the ancestors as far as remembered, nearest first, and what of it is new.

    `familiar`: the ancestors were known as it showed them; `fresh`: the process was not; `news`: more is known now of
    some that were; `replaced`: pids of other processes now.
    """

    path: list[Process]
    familiar: bool
    fresh: bool
    news: bool
    replaced: Sequence[int]


def ancestry(fields: Fields) -> list[tuple[int, str]]:
    """Pid and name of the process of an alert and of its visible ancestors, the process first."""
    above = shown_above(fields)
    chain = zip((fields.pid, *above[:6]), (fields.name, *above[6:12]), strict=True)
    return [(pid, name or "") for pid, name in takewhile(itemgetter(0), chain)]


def shown_above(fields: Fields) -> tuple[Any, ...]:
    """What an alert shows of its process's ancestors: six pids, six names, and the start of the first."""
    return (
        fields.ppid,
        fields.apid2,
        fields.apid3,
        fields.apid4,
        fields.apid5,
        fields.apid6,
        fields.aname1 or fields.pname,
        fields.aname2,
        fields.aname3,
        fields.aname4,
        fields.aname5,
        fields.aname6,
        fields.parent_start,
    )


_UNKNOWN = (None,) * 5


def is_runtime(name: str) -> bool:
    """Whether a process of this name stands outside containers and starts processes in them."""
    return name in _RUNTIME_NAMES or name.startswith("runc:")


class Lineage(Generations[int, Process]):
    """The remembered processes of one container (or of the host), by pid."""

    __slots__ = ()

    def __getitem__(self, pid: int) -> Process | None:
        return self.get(pid)

    def learn(self, fields: Fields, time: int, is_init: Callable[[int], bool]) -> Learned:
        """Remember the process and the ancestors that an alert showed at `time`.

        Most show the ancestors that a sibling has shown: those need no second look.
        """
        replaced: list[int] = []
        news = False
        above = shown_above(fields)
        told = hash(above)
        ppid = fields.ppid or 0
        parent = self._young.get(ppid) or self.get(ppid)
        familiar = parent is not None and parent.shown == told and time >= parent.seen
        if not familiar:
            news, replaced = self._meet_ancestors(above, time, is_init)
            parent = self.get(ppid)
        if parent is not None:
            parent.shown = told
            parent.seen = time if familiar else max(parent.seen, time)
            ppid = parent.pid  # the same number, but one object for all its children
        pid = fields.pid or 0
        if pid not in self._young and pid not in self._old:
            name, parent_name = intern(fields.name or ""), intern(above[6] or "")
            self.add(pid, Process(pid, name, fields.start or 0, ppid, time, time, parent_name))
            return Learned(self.path(pid), familiar, True, news, replaced)
        met = self._meet((pid, fields.name, fields.start, ppid, above[6]), time, is_init)
        if met == REPLACED:
            replaced.append(pid)
        return Learned(self.path(pid), familiar, met == REPLACED, news or met == MORE, replaced)

    def _meet_ancestors(
        self, above: tuple[Any, ...], time: int, is_init: Callable[[int], bool]
    ) -> tuple[bool, list[int]]:
        pids, names = above[:6], above[6:12]
        sights = zip(pids, names, above[12:] + _UNKNOWN, (*pids[1:], 0), (*names[1:], ""), strict=True)
        met = {sight[0]: self._meet(sight, time, is_init) for sight in takewhile(itemgetter(0), sights)}
        return MORE in met.values(), [pid for pid, told in met.items() if told == REPLACED]

    def _meet(self, sight: Sight, time: int, is_init: Callable[[int], bool]) -> int:
        pid, name, start, parent, below = sight
        known = self.get(pid)
        if known is not None and not (start and _is_reused(known, name, start, parent, is_init)):
            news = known.update(start, parent, below, time)
            if name and name != known.name and time >= known.seen:
                known.name = name
            return MORE if news else SAME
        # thousands bear the same few names
        self[pid] = Process(pid, intern(name or ""), start or 0, parent or 0, time, time, intern(below or ""))
        return FRESH if known is None else REPLACED

    def forget_unused(self, but: Iterable[int] = ()) -> None:
        """Forget the processes that were not used for longest, `but` for some pids."""
        forgotten = self.forget_half() or self.forget_half()
        for pid in but:
            if pid in forgotten:
                self[pid] = forgotten[pid]

    def path(self, pid: int) -> list[Process]:
        """A process and its ancestors, nearest first, as far as remembered."""
        path: list[Process] = []
        process, young = self.get(pid), self._young
        for _ in range(DEEPEST):
            if process is None:
                return path
            path.append(process)
            above = process.parent
            if not above:
                return path
            process = young.get(above) or self.get(above)
        return list({process.pid: process for process in path}.values())


def _is_reused(
    known: Process, name: str | None, start: int, parent: int | None, is_init: Callable[[int], bool]
) -> bool:
    """Whether the pid now names another process.

    A start time that moved is not enough: Falco reads it anew from /proc when it restarts. Another name under another
    living parent is.
    """
    if not known.start or start == known.start or start <= known.seen:
        return False
    other_parent = bool(parent) and bool(known.parent) and parent != known.parent and not is_init(parent or 0)
    return other_parent or (bool(name) and name != known.name)
