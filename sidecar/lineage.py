"""Who descends from whom, as far as alerts ever showed it: the memory that survives setsid, nohup and a parent's exit.

An alert names its process and up to six ancestors. When a process is orphaned the kernel gives it a new parent, and
later alerts show that one; here the first parent seen is kept, so ancestry that was visible once stays known.
"""

from collections.abc import Callable, Container
from operator import attrgetter
from sys import intern

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


Seen = tuple[int, str, int]
"""One process as one alert showed it: host pid, name ("" unknown), start time in ns (0 unknown)."""


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

    def update(self, name: str, start: int, parent: int, below: str, time: int) -> bool:
        """Take in another sight of the same process; says whether it told anything new of where it belongs."""
        news = False
        if parent and (not self.parent or time < self.linked):
            news = parent != self.parent
            self.parent, self.linked, self.below = parent, time, below
        if start and not self.start:
            self.start, news = start, True
        if time >= self.seen:
            self.seen = time
            if name:
                self.name = name
        return news


def ancestry(fields: Fields) -> list[Seen]:
    """The process of an alert and its visible ancestors, the process first; [] if Falco did not name the process."""
    if not fields.pid:
        return []
    chain = [(fields.pid, fields.name or "", fields.start or 0)]
    if fields.ppid:
        chain.append((fields.ppid, fields.aname1 or fields.pname or "", fields.parent_start or 0))
        for pid, name in zip(_apids(fields), _anames(fields), strict=True):
            if not pid:
                break
            chain.append((pid, name or "", 0))
    return chain


_apids = attrgetter("apid2", "apid3", "apid4", "apid5", "apid6")
_anames = attrgetter("aname2", "aname3", "aname4", "aname5", "aname6")


def is_runtime(name: str) -> bool:
    """Whether a process of this name stands outside containers and starts processes in them."""
    return name in _RUNTIME_NAMES or name.startswith("runc:")


class Lineage(Generations[int, Process]):
    """The remembered processes of one container (or of the host), by pid."""

    __slots__ = ()

    def __getitem__(self, pid: int) -> Process | None:
        return self.get(pid)

    def learn(self, chain: list[Seen], time: int, is_init: Callable[[int], bool]) -> tuple[bool, bool, list[int]]:
        """Remember a chain seen at `time`.

        Returns:
            Whether its process is new, whether more is known now of processes that were known before, and the pids
            that belong to another process now.
        """
        fresh, news, replaced = False, False, list[int]()
        self.age()
        parent, below = 0, ""
        for pid, name, start in reversed(chain):
            known = self._young.get(pid) or self.get(pid)
            reused = start and known is not None and _is_reused(known, name, start, parent, is_init)
            fresh = known is None or reused
            if known is None or reused:
                name, below = intern(name), intern(below)  # thousands bear the same few names
                self[pid] = Process(pid, name, start, parent, time, time, below)
                if reused:
                    replaced.append(pid)
            else:
                news |= known.update(name, start, parent, below, time)
            parent, below = pid, name
        return fresh, news, replaced

    def forget_unused(self, but: Container[int] = ()) -> None:
        """Forget the processes that were not used for longest, `but` for some pids."""
        forgotten = self.forget_half() or self.forget_half()
        for process in forgotten.values():
            if process.pid in but:
                self[process.pid] = process

    def path(self, pid: int) -> list[Process]:
        """A process and its ancestors, nearest first, as far as remembered."""
        path: list[Process] = []
        process = self._young.get(pid) or self.get(pid)
        while process is not None and len(path) < DEEPEST:
            path.append(process)
            above = process.parent
            process = (self._young.get(above) or self.get(above)) if above else None
        if len(path) < DEEPEST:
            return path
        return list({process.pid: process for process in path}.values())


def _is_reused(known: Process, name: str, start: int, parent: int, is_init: Callable[[int], bool]) -> bool:
    """Whether the pid now names another process.

    A start time that moved is not enough: Falco reads it anew from /proc when it restarts. Another name under another
    living parent is.
    """
    if not known.start or start == known.start or start <= known.seen:
        return False
    other_parent = bool(parent) and bool(known.parent) and parent != known.parent and not is_init(parent)
    return other_parent or (bool(name) and name != known.name)
