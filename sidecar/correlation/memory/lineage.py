"""Which process descends from which, as far as alerts showed it: this survives setsid, nohup and a parent's exit.

An alert names its process and some of its ancestors. When a process is orphaned the kernel gives it a new parent, and
later alerts show that one; here the first parent seen is kept, so ancestry that was visible once stays known. Where the
Falco plugin is loaded, alerts carry the ancestors that their process had when it was forked: those override the others.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from operator import itemgetter
from sys import intern
from typing import Any

from msgspec import Struct

from sidecar.aging_dict import AgingDict
from sidecar.alerts.ancestry import Ancestor, Ancestry, decode, is_same_start
from sidecar.correlation.memory.process import Process, is_reused, parent_of, shares
from sidecar.model import Fields

MAX_VISIBLE = 7
"""Processes that one alert can name: its own and six ancestors."""

MAX_DEPTH = 64
"""Steps of a walk towards the root; a loop made of reused pids ends here."""

KEPT_SHARE = 4
"""When memory is full, one process of so many survives for the sake of its service."""

Observation = tuple[int, str | None, int | None, int | None, str | None, str | None]
"""A process as one alert showed it: pid, name, start time (ns), the parent's pid, the parent's name, executable."""

UNCHANGED, UPDATED, NEW, REPLACED = range(4)
"""What an observation did to memory: nothing, improved a known process, added one, or took the pid from another."""


class Learned(Struct, gc=False):
    """What one alert taught.

    `path` is its process and the ancestors as far as remembered, nearest first. `is_familiar`: the ancestors were known
    exactly as shown; `is_new`: the process was not known; `is_updated`: known processes became better known;
    `replaced`: those whose pids belong to other processes now; `added`: those of an exact ancestry that were not known.
    """

    path: list[Process]
    is_familiar: bool
    is_new: bool
    is_updated: bool
    replaced: Sequence[Process]
    added: Sequence[Process] = ()


def ancestry(fields: Fields) -> list[tuple[int, str]]:
    """Pid and name of the process of an alert and of its visible ancestors, the process first."""
    above = shown_ancestors(fields)
    chain = zip((fields.pid, *above[:6]), (fields.name, *above[6:12]), strict=True)
    return [(pid, name or "") for pid, name in takewhile(itemgetter(0), chain)]


def shown_names(fields: Fields) -> tuple[str | None, ...]:
    """The names of the process of an alert and of its six ancestors, as far as they are shown."""
    return (
        fields.name,
        fields.aname1 or fields.pname,
        fields.aname2,
        fields.aname3,
        fields.aname4,
        fields.aname5,
        fields.aname6,
    )


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
_STEPS = range(MAX_DEPTH)


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
        if fields.packed is not None and (exact := decode(fields.packed)) is not None:
            return self._learn_exact(fields, exact, time)
        replaced: list[Process] = []
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
        if pid in self._young or pid in self._old:
            change, path = self._observe_known(fields, ppid, time, is_init, replaced)
            return Learned(path, is_familiar, change == REPLACED, is_updated or change == UPDATED, replaced)
        name, parent_name, file = intern(fields.name or ""), intern(above[6] or ""), intern(fields.exepath or "")
        start = fields.start or 0
        parent_start = fields.parent_start or 0
        process = Process(pid, name, start, ppid, time, time, parent_name, pid, file, parent_start)
        self.add(pid, process)
        return Learned(self._path(process), is_familiar, True, is_updated, replaced)

    def _observe_known(
        self, fields: Fields, ppid: int, time: int, is_init: Callable[[int], bool], replaced: list[Process]
    ) -> tuple[int, list[Process]]:
        """Observe the process of an alert where its pid is known. Returns what that did to memory, and its path."""
        pid = fields.pid or 0
        parent_start = fields.parent_start or 0
        shown = pid, fields.name, fields.start, ppid, fields.aname1 or fields.pname, fields.exepath
        change = self._observe(shown, time, is_init, replaced)
        path = self.path(pid, fields.start or 0) or self.path(pid)
        if not path[0].parent_start and path[0].parent == ppid:
            path[0].parent_start = parent_start
        return change, path

    def _learn_exact(self, fields: Fields, exact: Ancestry, time: int) -> Learned:
        """Remember a process and the ancestors that the plugin saw."""
        replaced: list[Process] = []
        added: list[Process] = []
        image = fields.name or exact.name, fields.exepath or exact.file
        process = self._identified(Ancestor(exact.pid, exact.start, *image, exact.origin), time, replaced, added)
        is_new = bool(added)
        process.update_image(*image, time)
        above = self._familiar_above(exact) if is_new else []
        if above:
            process.descends(above[0], exact.ancestors[0], exact=exact.origin == "f", time=time)
            return Learned([process, *above], False, is_new, False, replaced, added)
        path, is_updated = self._learn_above(process, exact, time, replaced, added)
        return Learned(path, False, is_new, is_updated, replaced, added)

    def _familiar_above(self, exact: Ancestry) -> list[Process]:
        """The remembered ancestors, if a sibling has shown just these, at half the cost; empty if some are gone."""
        parent = self.get(exact.ancestors[0].pid) if exact.ancestors and not exact.missing else None
        if parent is None or parent.chain is not exact.ancestors:
            return []
        path = self._path(parent)
        if len(path) != len(exact.ancestors):
            return []
        for process, ancestor in zip(path, exact.ancestors, strict=True):
            if process.pid != ancestor.pid or not is_same_start(process.start, ancestor.start):
                return []
        return path

    def _learn_above(
        self, process: Process, exact: Ancestry, time: int, replaced: list[Process], added: list[Process]
    ) -> tuple[list[Process], bool]:
        """Remember each ancestor as it was at its fork. Returns the path, and whether more is known of its origin."""
        path = [process]
        origin = exact.origin
        is_updated = False
        for index, ancestor in enumerate(exact.ancestors):
            forked = process.start or time
            parent = self._identified(ancestor, forked, replaced, added)
            parent.update_image(ancestor.name, ancestor.file, forked)
            parent.ports = ancestor.ports or parent.ports or ()
            if exact.missing and index == exact.gap:
                path += self._between(process, parent)
            else:
                is_updated |= process.descends(parent, ancestor, exact=origin == "f", time=time)
            path.append(parent)
            process = parent
            origin = ancestor.origin
        if len(path) > 1:
            path[1].chain = exact.ancestors
        return path, is_updated

    def _identified(self, seen: Ancestor, time: int, replaced: list[Process], added: list[Process]) -> Process:
        """The process of that pid and start, which may be a former holder of the pid; a new one if it is not known."""
        known = self.get(seen.pid)
        if known is not None and (found := known.holder(seen.start)) is not None:
            found.start = found.start or seen.start
            return found
        name, file = intern(seen.name), intern(seen.file)
        process = Process(seen.pid, name, seen.start, 0, time, time, key=seen.pid, file=file)
        added.append(process)
        if known is not None and seen.start < known.start:
            process.retire()
            known.add_former(process)
            return process
        if known is not None:
            self._replace(known, process, replaced)
        self[seen.pid] = process
        return process

    def _replace(self, known: Process, process: Process, replaced: list[Process]) -> None:
        """Remember a process as the former holder of the pid that another one has now."""
        known.retire()
        process.add_former(known, *known.former)
        known.former = ()
        replaced.append(known)

    def _between(self, process: Process, ancestor: Process) -> list[Process]:
        """Remembered processes between two that the plugin names with others left out; empty unless all are known."""
        path = self._path(process)
        return path[1 : path.index(ancestor)] if ancestor in path else []

    def _observe_ancestors(
        self, above: tuple[Any, ...], time: int, is_init: Callable[[int], bool]
    ) -> tuple[bool, list[Process]]:
        """Observe each ancestor. Returns whether known ones became better known, and those that were replaced."""
        pids, names, files = above[:6], above[6:12], above[12:18]
        starts = above[18:] + _UNKNOWN
        observations = zip(pids, names, starts, (*pids[1:], 0), (*names[1:], ""), files, strict=True)
        replaced: list[Process] = []
        shown = takewhile(itemgetter(0), observations)
        changes = [self._observe(each, time, is_init, replaced) for each in shown]
        return UPDATED in changes, replaced

    def _observe(
        self, observation: Observation, time: int, is_init: Callable[[int], bool], replaced: list[Process]
    ) -> int:
        pid, name, start, parent, parent_name, file = observation
        known = self.get(pid)
        if known is not None and known.former and start:
            known = known.holder(start) or known
        if known is not None and not (start and is_reused(known, name, start, parent, is_init)):
            is_updated = known.update(start, parent, parent_name, time)
            known.update_image(name, file, time)
            return UPDATED if is_updated else UNCHANGED
        # interned, since thousands of processes share a few names and executables
        name = intern(name or "")
        parent_name = intern(parent_name or "")
        file = intern(file or "")
        process = Process(pid, name, start or 0, parent or 0, time, time, parent_name, key=pid, file=file)
        if known is not None:
            self._replace(known, process, replaced)
        self[pid] = process
        return NEW if known is None else REPLACED

    def _make_room(self) -> None:
        """Evict what was unused for longest, but let each service keep a share: one must not push out another's."""
        evicted = self._old
        self._rotate()
        self._young |= shares(evicted.values(), self._old.get, self._half // KEPT_SHARE)

    def evict_unused(self, keep: Iterable[int] = ()) -> None:
        """Evict the processes that were unused for longest, except for the pids to `keep`."""
        evicted = self.evict_old() or self.evict_old()
        for pid in keep:
            if pid in evicted:
                self[pid] = evicted[pid]

    def path(self, pid: int, start: int = 0) -> list[Process]:
        """A process and its ancestors, nearest first, as far as remembered; empty if its `start` (ns) is another."""
        process = self.get(pid)
        return self._path(process.holder(start)) if process is not None else []

    def _path(self, process: Process | None) -> list[Process]:
        path: list[Process] = []
        get = self._young.get
        for _ in _STEPS:
            if process is None:
                return path
            path.append(process)
            above = process.parent
            if not above:
                return path
            parent = get(above) or self.get(above)
            if parent is None:
                return path
            process = parent_of(process, parent) if parent.former else parent
        return list({process.key: process for process in path}.values())
