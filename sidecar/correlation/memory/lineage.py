"""Which process descends from which, as far as alerts showed it: this survives setsid, nohup and a parent's exit.

An alert names its process and some of its ancestors. When a process is orphaned the kernel gives it a new parent, and
later alerts show that one; here the first parent seen is kept, so ancestry that was visible once stays known.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from operator import itemgetter
from sys import intern
from typing import Any

from msgspec import Struct

from sidecar.aging_dict import AgingDict
from sidecar.model import Fields

MAX_VISIBLE = 7
"""Processes that one alert can name: its own and six ancestors."""

MAX_DEPTH = 64
"""Steps of a walk towards the root; a loop made of reused pids ends here."""

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
    """A remembered process. `parent` is the pid of the first parent seen, 0 if unknown; times are event times (ns).

    `file` is its executable, links resolved, "" while unknown. Unlike the name, a process cannot choose it: only exec
    changes it.
    """

    pid: int
    name: str
    start: int
    parent: int
    parent_since: int
    """When it was seen with that parent; the earliest is the true one, since orphans are adopted later."""
    last_seen: int
    parent_name: str = ""
    """The parent's name at that time: what an entry script started stays the script's after it has become a service."""
    is_anchor: bool = False
    """A context is anchored to it."""
    is_shell: bool = False
    """It caused an anchoring detection: what runs below it is no longer the service itself."""
    has_shell_below: bool = False
    """Such a process was started below it."""
    runs_dropped: bool = False
    """It opened code that was dropped since it became this program."""
    ancestors_hash: int = 0
    """Hash of its ancestors as an alert of a child last showed them."""
    file: str = ""

    def update(self, start: int | None, parent: int | None, parent_name: str | None, time: int) -> bool:
        """Merge another observation of the same process. Returns whether more is known of its origin."""
        is_updated = False
        if parent and (not self.parent or time < self.parent_since):
            is_updated = parent != self.parent
            self.parent = parent
            self.parent_since = time
            self.parent_name = parent_name or ""
        if start and not self.start:
            self.start = start
            is_updated = True
        return is_updated

    def update_image(self, name: str | None, file: str | None, time: int) -> None:
        """Take over name and executable from an observation, unless a later one is known."""
        if time >= self.last_seen:
            if name and name != self.name:
                self.name = name
            if file and file != self.file:
                self.file = intern(file)
            self.last_seen = time
        elif file and not self.file:
            self.file = intern(file)


Observation = tuple[int, str | None, int | None, int | None, str | None, str | None]
"""A process as one alert showed it: pid, name, start time (ns), the parent's pid, the parent's name, executable."""

UNCHANGED, UPDATED, NEW, REPLACED = range(4)
"""What an observation did to memory: nothing, improved a known process, added one, or took the pid from another."""


class Learned(Struct, gc=False):
    """What one alert taught.

    `path` is its process and the ancestors as far as remembered, nearest first. `is_familiar`: the ancestors were known
    exactly as shown; `is_new`: the process was not known; `is_updated`: known processes became better known;
    `replaced`: pids that belong to other processes now.
    """

    path: list[Process]
    is_familiar: bool
    is_new: bool
    is_updated: bool
    replaced: Sequence[int]


def ancestry(fields: Fields) -> list[tuple[int, str]]:
    """Pid and name of the process of an alert and of its visible ancestors, the process first."""
    above = shown_ancestors(fields)
    chain = zip((fields.pid, *above[:6]), (fields.name, *above[6:12]), strict=True)
    return [(pid, name or "") for pid, name in takewhile(itemgetter(0), chain)]


def shown_ancestors(fields: Fields) -> tuple[Any, ...]:
    """What an alert shows of its process's ancestors: six pids, names, executables, and the first one's start (ns)."""
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
        fields.pexepath,
        fields.aexepath2,
        fields.aexepath3,
        fields.aexepath4,
        fields.aexepath5,
        fields.aexepath6,
        fields.parent_start,
    )


_UNKNOWN = (None,) * 5


def is_runtime(name: str) -> bool:
    """Whether a process of this name runs outside containers and starts processes in them."""
    return name in _RUNTIME_NAMES or name.startswith("runc:")


class Lineage(AgingDict[int, Process]):
    """The remembered processes of one container (or of the host), by pid."""

    __slots__ = ()

    def __getitem__(self, pid: int) -> Process | None:
        return self.get(pid)

    def learn(self, fields: Fields, time: int, is_init: Callable[[int], bool]) -> Learned:
        """Remember the process and the ancestors that an alert showed at `time` (ns).

        Most alerts show the ancestors that a sibling has shown before: those are not examined again, which saves a
        fifth of the cost of a detection.
        """
        replaced: list[int] = []
        is_updated = False
        above = shown_ancestors(fields)
        ancestors_hash = hash(above)
        ppid = fields.ppid or 0
        parent = self._young.get(ppid) or self.get(ppid)
        is_familiar = parent is not None and parent.ancestors_hash == ancestors_hash and time >= parent.last_seen
        if not is_familiar:
            is_updated, replaced = self._observe_ancestors(above, time, is_init)
            parent = self.get(ppid)
        if parent is not None:
            parent.ancestors_hash = ancestors_hash
            parent.last_seen = time if is_familiar else max(parent.last_seen, time)
            ppid = parent.pid  # the same number, but one object for all children
        pid = fields.pid or 0
        if pid not in self._young and pid not in self._old:
            name, parent_name = intern(fields.name or ""), intern(above[6] or "")
            file = intern(fields.exepath or "")
            self.add(pid, Process(pid, name, fields.start or 0, ppid, time, time, parent_name, file=file))
            return Learned(self.path(pid), is_familiar, True, is_updated, replaced)
        change = self._observe((pid, fields.name, fields.start, ppid, above[6], fields.exepath), time, is_init)
        if change == REPLACED:
            replaced.append(pid)
        return Learned(self.path(pid), is_familiar, change == REPLACED, is_updated or change == UPDATED, replaced)

    def _observe_ancestors(
        self, above: tuple[Any, ...], time: int, is_init: Callable[[int], bool]
    ) -> tuple[bool, list[int]]:
        """Observe each ancestor. Returns whether known ones became better known, and the pids that were replaced."""
        pids, names, files = above[:6], above[6:12], above[12:18]
        starts = above[18:] + _UNKNOWN
        observations = zip(pids, names, starts, (*pids[1:], 0), (*names[1:], ""), files, strict=True)
        changes = {shown[0]: self._observe(shown, time, is_init) for shown in takewhile(itemgetter(0), observations)}
        return UPDATED in changes.values(), [pid for pid, change in changes.items() if change == REPLACED]

    def _observe(self, observation: Observation, time: int, is_init: Callable[[int], bool]) -> int:
        pid, name, start, parent, parent_name, file = observation
        known = self.get(pid)
        if known is not None and not (start and _is_reused(known, name, start, parent, is_init)):
            is_updated = known.update(start, parent, parent_name, time)
            known.update_image(name, file, time)
            return UPDATED if is_updated else UNCHANGED
        # interned, since thousands of processes share a few names and executables
        name, parent_name, file = intern(name or ""), intern(parent_name or ""), intern(file or "")
        self[pid] = Process(pid, name, start or 0, parent or 0, time, time, parent_name, file=file)
        return NEW if known is None else REPLACED

    def evict_unused(self, keep: Iterable[int] = ()) -> None:
        """Evict the processes that were unused for longest, except for the pids to `keep`."""
        evicted = self.evict_old() or self.evict_old()
        for pid in keep:
            if pid in evicted:
                self[pid] = evicted[pid]

    def path(self, pid: int) -> list[Process]:
        """A process and its ancestors, nearest first, as far as remembered."""
        path: list[Process] = []
        process = self.get(pid)
        young = self._young
        for _ in range(MAX_DEPTH):
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
    """Whether the pid now belongs to another process.

    A later start time is not enough: Falco reads it again from /proc when it restarts. Another name, or another parent
    that is not an init, decides.
    """
    if not known.start or start == known.start or start <= known.last_seen:
        return False
    is_reparented = bool(parent) and bool(known.parent) and parent != known.parent and not is_init(parent or 0)
    return is_reparented or (bool(name) and name != known.name)
