"""Everything remembered about one container: its contexts, its processes and its pending detections.

All of it has a quota, so a flood from one container can evict only that container's own; and the contexts that the
quota evicts are folded into the container's coarse context instead of being lost.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from sys import intern

from sidecar.alerts.ancestry import is_same_start
from sidecar.correlation.memory.context import MAX_SESSIONS, SHORTENED_BYTES, Context
from sidecar.correlation.memory.files import Files
from sidecar.correlation.memory.inits import HOST_INITS, INITS, is_runtime
from sidecar.correlation.memory.lineage import MAX_VISIBLE, Learned, Lineage, ancestry, shown_names
from sidecar.correlation.memory.pending import PendingDetections
from sidecar.correlation.memory.process import Process
from sidecar.model import Fields, Where
from sidecar.rules.change import Successor

MAX_CONTEXTS = 256
"""Contexts of one container."""

MAX_PROCESSES = 4096
"""Remembered processes of one container."""

NO_SESSIONS: frozenset[int] = frozenset()

COARSE_ANCHOR = 0
"""Stands in for an anchor's pid: the context of the container as a whole."""


class Contexts(dict[tuple[int, int], Context]):
    """The contexts of a container by (index of the correlation rule, anchor's key), the least recently used first.

    They live as long as the container. Above its quota the least recently used one is folded into `coarse`, the
    context of the whole container for its rule.
    """

    __slots__ = ("coarse", "folded", "revision", "rules")

    def __init__(self) -> None:
        super().__init__()
        self.coarse: dict[int, Context] = {}
        self.folded = 0
        self.rules: set[int] = set()
        """The rules that have had contexts here."""
        self.revision = 0
        """Counts the changes that may give a place to pending detections."""

    def add(self, key: tuple[int, int], context: Context) -> None:
        """Add a new context."""
        if len(self) >= MAX_CONTEXTS:
            self.fold(1)
        self[key] = context
        self.rules.add(key[0])
        self.revision += 1

    def merge(self, context: Context, key: tuple[int, int]) -> None:
        """Merge the context of a key into `context`, inside which it turned out to lie."""
        narrower = self.pop(key)
        context.absorb(narrower)
        if len(context.sessions) < MAX_SESSIONS:
            context.sessions |= narrower.sessions
        self.revision += 1

    def detach(self, process: Process) -> None:
        """Keep the contexts of an anchor although its pid belongs to another process now: under a key of its own."""
        for rule in self.rules:
            context = self.pop((rule, process.pid), None)
            if context is not None:
                self[rule, process.key] = context

    def fold(self, count: int) -> None:
        """Fold the `count` least recently used ones."""
        self.revision += 1
        keys = [*islice(self, count)]
        self.folded += len(keys)
        for key in keys:
            context = self.pop(key)
            coarse = self.coarse.get(key[0])
            if coarse is None:
                self.coarse[key[0]] = context
            else:
                coarse.absorb(context)
        for coarse in self.coarse.values():
            coarse.sessions.clear()  # it is joined by whatever belongs nowhere else, regardless of the session


Usage = tuple[int, int, int, int]
"""What a container holds of the shared budgets: contexts, processes, bytes of pending detections, of timelines."""

NOTHING: Usage = (0, 0, 0, 0)


class Container:
    """Everything remembered about one container, or about the host itself (its id is "" then).

    `init_pid`, `init_name` and `init_tty` are the pid, name and terminal of the container's first process, 0 or ""
    while unknown; `started` is when the earliest known one started (ns), 0 while unknown. `init_epoch` distinguishes
    one life of the container from the next: it is `init_pid` if that process was seen, else 0. `foreign_sessions` have
    a process that belongs to no context.
    """

    __slots__ = (
        "_init_name",
        "accounted",
        "coarse",
        "contexts",
        "files",
        "foreign_sessions",
        "has_had_contexts",
        "init_epoch",
        "init_pid",
        "init_tty",
        "is_host",
        "is_named",
        "lineage",
        "next_report_at",
        "pending",
        "reviewed_revision",
        "started",
        "timeline_bytes",
        "touched_at",
        "where",
    )

    def __init__(self, host: str, cid: str, ttl: float, timer: Callable[[], float]) -> None:
        self.where = Where(host, cid, "", "", "", "")
        self.is_host = not cid
        self.is_named = False
        """All names of its place are known."""
        self.has_had_contexts = False
        self.lineage = Lineage(MAX_PROCESSES, ttl, timer)
        self.contexts = Contexts()
        self.coarse = self.contexts.coarse
        self.pending = PendingDetections()
        self.reviewed_revision = 0
        """Revision of `contexts` at which the pending detections were last tried."""
        self.foreign_sessions: set[int] | frozenset[int] = NO_SESSIONS
        self.init_pid = self.init_epoch = 0
        self._init_name = ""
        self.init_tty = self.started = 0
        self.timeline_bytes = 0
        """Upper bound for the bytes of all its timelines: what folding drops stays counted until they are shortened."""
        self.files: Files | None = None
        """What is known of its files, if anything is."""
        self.accounted = NOTHING
        """What the shared budgets have counted for it."""
        self.touched_at = timer()
        self.next_report_at = 0.0
        """When a nearly exhausted quota may be reported again (seconds of the timer)."""

    def usage(self) -> Usage:
        """What it holds now."""
        return len(self.contexts) + len(self.coarse), self.lineage.size(), self.pending.size, self.timeline_bytes

    def known_files(self) -> Files:
        """What is known of its files, to be added to."""
        if self.files is None:
            self.files = Files()
        return self.files

    def contexts_of(self, rule: int) -> Iterator[Context]:
        """The contexts of one correlation rule, without the coarse one."""
        return (context for (index, _), context in self.contexts.items() if index == rule)

    def context(self, rule: int, anchor: Process) -> Context | None:
        """The context at an anchor, or the coarse one if it was folded; counts as a use."""
        key = rule, anchor.key
        context = self.contexts.pop(key, None)
        if context is None:
            return self.coarse.get(rule)
        self.contexts[key] = context
        return context

    def is_init(self, pid: int) -> bool:
        """Whether orphans are adopted by this process."""
        if pid in (0, 1, self.init_pid):
            return True
        process = self.lineage[pid]
        return self.is_host and process is not None and process.name in HOST_INITS

    def learn(self, fields: Fields, time: int) -> Learned:
        """Remember what an alert at `time` (ns) shows of the place and of its processes."""
        if not self.is_named:
            self._learn_place(fields)
        learned = self.lineage.learn(fields, time, self.is_init)
        if learned.replaced or learned.added:
            self._update_anchors(learned)
        if fields.packed:
            learned.path = self.inside(learned.path)
        if not learned.is_familiar and (fields.pcmdline or fields.acmdline2 or fields.acmdline3 or fields.acmdline4):
            _learn_commands(learned.path, fields)
        if (not learned.is_familiar or fields.vpid == 1 or not self.init_epoch) and not self.is_host:
            if fields.packed:
                self._learn_init(fields, _shown(learned.path))
            elif fields.vpid == 1 or fields.pvpid == 1 or _init_below_runtime(shown_names(fields)) is not None:
                self._learn_init(fields, ancestry(fields))
        return learned

    def inside(self, path: list[Process]) -> list[Process]:
        """A path that the plugin gave, up to the runtime that started the container, or to the host's init.

        Beyond is not of this place: containerd serves on a port too. The outermost runtime cannot be an intruder's.
        """
        for at in range(len(path) - 1, 0, -1):
            process = path[at]
            if self.is_host and process.name in HOST_INITS:
                return path[: at + 1]
            if not self.is_host and (is_runtime(process.name) or process.pid == self.init_pid):
                return path[: at + 1 + (process.pid == self.init_pid)]
        return path

    def path(self, pid: int, start: int) -> list[Process]:
        """A process and its ancestors, as `Lineage.path` gives them, inside this container where they are exact."""
        path = self.lineage.path(pid, start)
        return self.inside(path) if len(path) > 1 and path[1].chain else path

    def _update_anchors(self, learned: Learned) -> None:
        """Detach the contexts of processes that ended, and recognise anchors that had been evicted."""
        for process in learned.replaced:
            self.contexts.detach(process)
        for process in learned.added:
            for rule in self.contexts.rules:
                context = self.contexts.get((rule, process.key))
                if context is not None and is_same_start(context.anchor_start, process.start):
                    process.is_anchor = True

    def _learn_place(self, fields: Fields) -> None:
        """Fill in names, which Falco has only after a container's first events."""
        known = self.where
        self.where = Where(
            known.host,
            known.container,
            known.container_name or fields.container_name or "",
            known.image or _image(fields),
            known.namespace or fields.namespace or "",
            known.pod or fields.pod or "",
        )
        self.is_named = bool(self.where.pod and self.where.container_name)

    def _learn_init(self, fields: Fields, chain: list[tuple[int, str]]) -> None:
        """Learn which process is the container's first: the one whose pid is 1 inside.

        A nested PID namespace (`unshare --pid`) has a pid 1 as well, but below processes of the container, whatever
        these are named. So a known first process is replaced only where all ancestors of another are shown.
        """
        at = 0 if fields.vpid == 1 else 1 if fields.pvpid == 1 and len(chain) > 1 else None
        if at is None:
            at = _init_below_runtime([name for _, name in chain])
        if at is None:
            return
        pid, name = chain[at]
        above = chain[at + 1 :]
        is_new_life = above and is_runtime(above[0][1]) and len(chain) < MAX_VISIBLE
        if not self.init_pid or (is_new_life and all(ancestor != self.init_pid for ancestor, _ in above)):
            self._set_init(pid, name)
        if at == 0 and self.init_pid == pid:
            self.init_tty = fields.tty or 0
            if fields.start and above and is_runtime(above[0][1]):
                self.started = min(self.started or fields.start, fields.start)

    def infer_init(self, path: Sequence[Process]) -> None:
        """While the first process is unknown, take the one between the container runtime and a service for it."""
        if self.init_pid or self.is_host:
            return
        for below, process in pairwise(path):
            if is_runtime(process.name):
                self._set_init(below.pid, below.name)
                self.init_epoch = 0
                return

    @property
    def init_name(self) -> str:
        """The current name of the first process, since an entry script becomes a service; "" while unknown."""
        process = self.lineage[self.init_pid]
        return process.name if process is not None else self._init_name

    def _set_init(self, pid: int, name: str) -> None:
        if pid != self.init_pid:
            self.foreign_sessions = NO_SESSIONS  # judged without knowing which process adopts orphans
            self.contexts.revision += 1
        self.init_pid = self.init_epoch = pid
        self._init_name = name

    def mark_foreign(self, session: int) -> None:
        """Remember a session that belongs to no context."""
        if len(self.foreign_sessions) < MAX_SESSIONS:
            self.foreign_sessions = {*self.foreign_sessions, session}

    def translate(self, successors: Mapping[int, Successor]) -> None:
        """Translate all evidence to changed correlation rules; drop that of rules, groups and cases that are gone."""

        def survives(rule: int, context: Context) -> bool:
            return rule in successors and context.translate(successors[rule])

        contexts, coarse = self.contexts, self.coarse
        kept = {key: context for key, context in contexts.items() if survives(key[0], context)}
        kept_coarse = {rule: context for rule, context in coarse.items() if survives(rule, context)}
        contexts.clear()
        contexts.update({(successors[rule].index, key): context for (rule, key), context in kept.items()})
        coarse.clear()
        coarse.update({successors[rule].index: context for rule, context in kept_coarse.items()})
        contexts.rules = {successors[rule].index for rule in contexts.rules if rule in successors}
        contexts.revision += 1
        self.pending.translate(successors)
        self.timeline_bytes = sum([context.timeline_bytes for context in (*contexts.values(), *coarse.values())])

    def evict_processes(self) -> None:
        """Evict the processes that were unused for longest, except for those that anchor contexts."""
        self.lineage.evict_unused([pid for _, pid in self.contexts])

    def shorten_timelines(self) -> None:
        """Drop the middle half of every timeline, or cut its texts."""
        contexts = (*self.contexts.values(), *self.coarse.values())
        for context in contexts:
            count = len(context.timeline)
            if count > 2 or context.timeline_bytes > SHORTENED_BYTES * count:
                context.shorten()
        self.timeline_bytes = sum([context.timeline_bytes for context in contexts])


def _shown(path: Sequence[Process]) -> list[tuple[int, str]]:
    return [(process.pid, process.name) for process in path]


def _init_below_runtime(names: Sequence[str | None]) -> int | None:
    if INITS.isdisjoint(names):
        return None
    for index, (below, above) in enumerate(pairwise(names)):
        if below in INITS and above and is_runtime(above):
            return index
    return None


def _image(fields: Fields) -> str:
    return f"{fields.image}:{fields.image_tag}" if fields.image and fields.image_tag else fields.image or ""


def _learn_commands(path: Sequence[Process], fields: Fields) -> None:
    """Remember what the ancestors in a path run, as far as an alert shows it."""
    shown = zip(
        (fields.ppid, fields.apid2, fields.apid3, fields.apid4),
        (fields.pcmdline, fields.acmdline2, fields.acmdline3, fields.acmdline4),
        strict=True,
    )
    for process, (pid, command) in zip(path[1:], shown, strict=False):
        if command and process.pid == pid and command != process.command:
            process.command = intern(command)
