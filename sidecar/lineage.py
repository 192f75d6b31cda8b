"""Who descends from whom, as far as alerts ever showed it: the memory that survives setsid, nohup and a parent's exit.

An alert names its process and up to six ancestors. When a process is orphaned the kernel gives it a new parent, and
later alerts show that one; here the first parent seen is kept, so ancestry that was visible once stays known.
"""

from collections.abc import Callable, Container
from sys import intern
from typing import NamedTuple

from msgspec import Struct

from sidecar.generations import Generations
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


class Seen(NamedTuple):
    """One process as one alert showed it: host pid, name ("" unknown), start time in ns (0 unknown)."""

    pid: int
    name: str
    start: int


NOBODY = Seen(0, "", 0)


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

    def update(self, seen: Seen, parent: int, below: str, time: int) -> bool:
        """Take in another sight of the same process; says whether it told anything new of where it belongs."""
        news = bool(seen.start and not self.start)
        if parent and (not self.parent or time < self.linked):
            news |= parent != self.parent
            self.parent, self.linked, self.below = parent, time, below
        self.start = self.start or seen.start
        if time >= self.seen:
            self.name, self.seen = seen.name or self.name, time
        return news


def ancestry(fields: Fields) -> list[Seen]:
    """The process of an alert and its visible ancestors, the process first; [] if Falco did not name the process."""
    if not fields.pid:
        return []
    chain = [Seen(fields.pid, fields.name or "", fields.start or 0)]
    if fields.ppid:
        chain.append(Seen(fields.ppid, fields.aname1 or fields.pname or "", fields.parent_start or 0))
        for pid, name in (
            (fields.apid2, fields.aname2),
            (fields.apid3, fields.aname3),
            (fields.apid4, fields.aname4),
            (fields.apid5, fields.aname5),
            (fields.apid6, fields.aname6),
        ):
            if not pid:
                break
            chain.append(Seen(pid, name or "", 0))
    return chain


def is_runtime(name: str) -> bool:
    """Whether a process of this name stands outside containers and starts processes in them."""
    return name in _RUNTIME_NAMES or name.startswith("runc:")


class Lineage:
    """The remembered processes of one container (or of the host): at most `quota`, for up to `ttl` seconds."""

    __slots__ = ("_processes",)

    def __init__(self, quota: int, ttl: float, timer: Callable[[], float]) -> None:
        self._processes: Generations[int, Process] = Generations(quota, ttl, timer)

    def __len__(self) -> int:
        return len(self._processes)

    def __getitem__(self, pid: int) -> Process | None:
        return self._processes.get(pid)

    def learn(self, chain: list[Seen], time: int, is_init: Callable[[int], bool]) -> tuple[bool, list[int]]:
        """Remember a chain seen at `time`.

        Returns:
            Whether more is known now of processes that were known before, and the pids that now belong to another one.
        """
        news, replaced = False, []
        self._processes.age()
        for index, seen in enumerate(chain):
            parent, below, _ = chain[index + 1] if index + 1 < len(chain) else NOBODY
            known = self._processes.get(seen.pid)
            if known is None or _is_reused(known, seen, parent, is_init):
                if known is not None:
                    replaced.append(seen.pid)
                name, below = intern(seen.name), intern(below)  # thousands bear the same few names
                self._processes[seen.pid] = Process(seen.pid, name, seen.start, parent, time, time, below)
            else:
                news |= known.update(seen, parent, below, time)
        return news, replaced

    def forget_half(self, but: Container[int] = ()) -> None:
        """Forget the processes that were not used for longest, `but` for some pids."""
        forgotten = self._processes.forget_half() or self._processes.forget_half()
        for process in forgotten.values():
            if process.pid in but:
                self._processes[process.pid] = process

    def path(self, pid: int) -> list[Process]:
        """A process and its ancestors, nearest first, as far as remembered."""
        path: list[Process] = []
        process = self._processes.get(pid)
        while process is not None and len(path) < DEEPEST:
            path.append(process)
            process = self._processes.get(process.parent)
        if len(path) < DEEPEST:
            return path
        return list({process.pid: process for process in path}.values())


def _is_reused(known: Process, seen: Seen, parent: int, is_init: Callable[[int], bool]) -> bool:
    """Whether the pid now names another process.

    A start time that moved is not enough: Falco reads it anew from /proc when it restarts. Another name under another
    living parent is.
    """
    moved = known.start and seen.start and seen.start != known.start and seen.start > known.seen
    if not moved:
        return False
    other_parent = bool(parent) and bool(known.parent) and parent != known.parent and not is_init(parent)
    return other_parent or (bool(seen.name) and seen.name != known.name)
