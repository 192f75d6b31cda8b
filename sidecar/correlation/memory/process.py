"""A remembered process, and what distinguishes it from others that had its pid before or have it now."""

from collections.abc import Callable, Iterable
from itertools import islice
from operator import attrgetter
from sys import intern

from msgspec import Struct

from sidecar.alerts.ancestry import TOLERANCE, Ancestor, is_same_start
from sidecar.correlation.memory.inits import HOST_INITS, INITS, is_runtime

MAX_STEPS = 16
"""Steps from a process up to the one that stands for its service."""

MAX_FORMER = 4
"""Former holders of a pid that are remembered with the present one."""


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
    key: int = 0
    """Identifies its contexts: its pid, or a negative number once the pid belongs to another process."""
    file: str = ""
    parent_start: int = 0
    """The parent's start time, 0 if unknown."""
    is_anchor: bool = False
    """A context is anchored to it."""
    is_shell: bool = False
    """It caused an anchoring detection: what runs below it is no longer the service itself."""
    has_shell_below: bool = False
    """Such a process was started below it."""
    runs_dropped: bool = False
    """It opened code that was dropped since it became this program."""
    tools_named: tuple[str, ...] = ()
    """Tools that the arguments of its script name: what these do below it is the doing of its caller."""
    has_left: bool = False
    """It was about to detach itself from its session: its parent may be the last trace of where it came from."""
    is_foreign: bool = False
    """The first process of its container adopted it: it was started from outside."""
    ancestors_hash: int = 0
    """Hash of its ancestors as an alert of a child last showed them."""
    parent_file: str = ""
    """The parent's executable when it forked this one; "" unless the plugin showed it."""
    has_exact_parent: bool = False
    """The plugin saw its fork, so the parent is certain."""
    ports: tuple[int, ...] | None = None
    """TCP ports at which it holds, or held, a server socket; empty if it holds none, None if that is not known."""
    chain: tuple[Ancestor, ...] = ()
    """It and its ancestors as the plugin last showed them for a child."""
    former: tuple["Process", ...] = ()
    """Those that had the pid before, the latest first."""
    command: str = ""
    """The script that it runs, and the subcommand, as `meaning.command_summary` gives them; "" while unknown."""

    @property
    def is_link(self) -> bool:
        """Whether detections hang on it: forgetting it would cut them off."""
        return self.is_anchor or self.is_shell or self.has_left or bool(self.ancestors_hash)

    @property
    def program(self) -> str:
        """The name of its executable, or its own while that is unknown."""
        return self.file.rpartition("/")[2] or self.name

    def update(self, start: int | None, parent: int | None, parent_name: str | None, time: int) -> bool:
        """Merge another observation of the same process. Returns whether more is known of its origin."""
        is_updated = False
        if parent and not self.has_exact_parent and (not self.parent or time < self.parent_since):
            is_updated = parent != self.parent
            if is_updated:
                self.parent = parent
                self.parent_start = 0
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

    def descends(self, parent: "Process", seen: Ancestor, *, exact: bool, time: int) -> bool:
        """Take the parent that the plugin gives, seen as it was then. Returns whether that was not known."""
        name = seen.name
        if not exact:
            is_updated = self.update(0, parent.pid, name, time)
            if self.parent == parent.pid and not self.has_exact_parent:
                self.parent_start = parent.start
            return is_updated
        if self.has_exact_parent:
            return False
        is_updated = self.parent != parent.pid
        self.parent, self.parent_start, self.parent_name = parent.pid, parent.start, name
        self.parent_file = intern(seen.file)
        self.parent_since = self.start or time
        self.has_exact_parent = True
        return is_updated

    def holder(self, start: int) -> "Process | None":
        """This process, or the former holder of its pid, that started at that time (ns)."""
        if is_same_start(self.start, start):
            return self
        return next((process for process in self.former if is_same_start(process.start, start)), None)

    def retire(self) -> None:
        """Give up the pid to another process."""
        self.key = -(self.start << 22 | self.pid)

    def add_former(self, *processes: "Process") -> None:
        """Take former holders of the pid into the list; of too many the earliest are dropped."""
        self.former = tuple(sorted((*self.former, *processes), key=attrgetter("start"), reverse=True)[:MAX_FORMER])


def parent_of(child: Process, holder: Process) -> Process | None:
    """The holder of a pid, now or formerly, that is a child's parent, or at least older than the child."""
    if child.parent_start and ((found := holder.holder(child.parent_start)) is not None or child.has_exact_parent):
        return found
    candidates = (holder, *holder.former)
    return next((each for each in candidates if not child.start or each.start - child.start <= TOLERANCE), None)


def is_reused(known: Process, name: str | None, start: int, parent: int | None, is_init: Callable[[int], bool]) -> bool:
    """Whether the pid now belongs to another process.

    A later start time is not enough: Falco reads it again from /proc when it restarts. Another name, or another parent
    that is not an init, decides.
    """
    if is_same_start(start, known.start) or start <= known.last_seen:
        return False
    is_reparented = bool(parent) and bool(known.parent) and parent != known.parent and not is_init(parent or 0)
    return is_reparented or (bool(name) and name != known.name)


def shares(processes: Iterable[Process], find: Callable[[int], Process | None], room: int) -> dict[int, Process]:
    """At most `room` of the processes, by pid: of each service those that others hang on, then those seen last.

    `find` looks up processes that are not among them.
    """
    known = {process.pid: process for process in processes}
    services: dict[int, list[Process]] = {}
    roots: dict[int, int] = {}
    for process in known.values():
        root = roots.get(process.parent)
        if root is None:
            root = roots[process.parent] = _root(process, lambda pid: known.get(pid) or find(pid))
        services.setdefault(root, []).append(process)
    share = max(room // max(len(services), 1), 1)
    kept: dict[int, Process] = {}
    for members in services.values():
        members.sort(key=_worth, reverse=True)
        kept |= {process.pid: process for process in members[:share]}
    return dict(islice(kept.items(), room))


def _root(process: Process, find: Callable[[int], Process | None]) -> int:
    """Pid of the process that stands for the service of another: the outermost below init, or what is known."""
    for _ in range(MAX_STEPS):
        parent = find(process.parent)
        if parent is None or parent.pid == 1 or parent.name in HOST_INITS | INITS or is_runtime(parent.name):
            break
        process = parent
    return process.pid


def _worth(process: Process) -> tuple[bool, int]:
    return process.is_link, process.last_seen
