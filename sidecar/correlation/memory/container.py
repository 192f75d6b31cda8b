"""All that is known of one container: its contexts, its processes, and what waits for an explanation.

Everything has a quota, so whoever floods from one container can push out only his own; and what the quota pushes out is
folded into the container's coarse context instead of being forgotten.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice, pairwise

from sidecar.correlation.memory.context import SESSIONS, SHORT, Context
from sidecar.correlation.memory.lineage import HOST_INITS, INITS, Learned, Lineage, Process, ancestry, is_runtime
from sidecar.correlation.memory.pending import WaitingRoom
from sidecar.model import Fields, Where

CONTEXTS = 256
"""Contexts of one container."""

PROCESSES = 4096
"""Remembered processes of one container."""

NOBODY: frozenset[int] = frozenset()

COARSE = 0
"""In place of an anchor's pid: the context of the container as a whole."""


class Contexts(dict[tuple[int, int], Context]):
    """The contexts of a container by (correlation rule, anchor's pid), the longest unused first.

    They live as long as the container. Under its quota the longest unused one is folded into `coarse`, the context of
    the whole container for its rule.
    """

    __slots__ = ("changed", "coarse", "folded")

    def __init__(self) -> None:
        super().__init__()
        self.coarse: dict[int, Context] = {}
        self.folded = 0
        self.changed = False
        """Something happened that may give a place to detections that wait."""

    def add(self, key: tuple[int, int], context: Context) -> None:
        """Take in a new one."""
        if len(self) >= CONTEXTS:
            self.fold(1)
        self[key] = context
        self.changed = True

    def join(self, context: Context, key: tuple[int, int]) -> None:
        """Let a context take over the one of a key, which turned out to lie inside it."""
        narrower = self.pop(key)
        context.absorb(narrower)
        if len(context.sessions) < SESSIONS:
            context.sessions |= narrower.sessions
        self.changed = True

    def fold(self, count: int) -> None:
        """Fold the `count` longest unused ones."""
        self.changed = True
        keys = [*islice(self, count)]
        self.folded += len(keys)
        for key in keys:
            context, coarse = self.pop(key), self.coarse.get(key[0])
            if coarse is None:
                self.coarse[key[0]] = context
            else:
                coarse.absorb(context)
        for coarse in self.coarse.values():
            coarse.sessions.clear()  # whoever belongs nowhere else joins it, whatever the session


Use = tuple[int, int, int, int]
"""How much a container holds of what all share: contexts, processes, and bytes of waiting detections and timelines."""

NOTHING: Use = (0, 0, 0, 0)


class Container:
    """All that is known of one container, or of the host itself (`id` is "" then)."""

    __slots__ = (
        "_first_name",
        "coarse",
        "contexts",
        "counted",
        "epoch",
        "first",
        "first_tty",
        "is_armed",
        "is_host",
        "is_named",
        "kept",
        "lineage",
        "silent_until",
        "strangers",
        "timelines",
        "waiting",
        "where",
    )

    def __init__(self, host: str, cid: str, ttl: float, timer: Callable[[], float]) -> None:
        self.where = Where(host, cid, "", "", "", "")
        self.is_host = not cid
        self.is_named = False
        """Everything of its place is known."""
        self.is_armed = False
        """It was seen to hold a context."""
        self.lineage = Lineage(PROCESSES, ttl, timer)
        self.contexts = Contexts()
        self.coarse = self.contexts.coarse
        self.waiting = WaitingRoom()
        self.strangers: set[int] | frozenset[int] = NOBODY
        self.first = 0
        self._first_name = ""
        self.first_tty = 0
        self.epoch = 0
        self.timelines = 0
        """Bytes of all its timelines, at the most: what folding leaves out stays counted until they are shortened."""
        self.counted = NOTHING
        """What of it the budgets of all containers have counted."""
        self.kept = timer()
        self.silent_until = 0.0
        """When it may be reported again that its quota is nearly used up."""

    def use(self) -> Use:
        """How much it holds now."""
        return len(self.contexts) + len(self.coarse), self.lineage.size(), self.waiting.weight, self.timelines

    def of_rule(self, rule: int) -> Iterator[Context]:
        """The contexts of one correlation rule, without the coarse one."""
        return (context for (index, _), context in self.contexts.items() if index == rule)

    def context(self, rule: int, anchor: Process) -> Context | None:
        """The context that hangs on an anchor, thereby used; when it was folded, the coarse one."""
        key = rule, anchor.pid
        context = self.contexts.pop(key, None)
        if context is None:
            return self.coarse.get(rule)
        self.contexts[key] = context
        return context

    def is_init(self, pid: int) -> bool:
        """Whether orphans end up below this process."""
        if pid in (0, 1, self.first):
            return True
        process = self.lineage[pid]
        return self.is_host and process is not None and process.name in HOST_INITS

    def learn(self, fields: Fields, time: int) -> Learned:
        """Take in what an alert shows of the place and of its processes."""
        if not self.is_named:
            self.note_place(fields)
        learned = self.lineage.learn(fields, time, self.is_init)
        if not learned.familiar or fields.vpid == 1 or not self.epoch:
            self.note_first(fields)
        return learned

    def note_place(self, fields: Fields) -> None:
        """Fill in names that Falco learns only after a container's first events."""
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

    def note_first(self, fields: Fields) -> None:
        """Learn which process is the container's first: the one with pid 1 inside it.

        A nested PID namespace (`unshare --pid`) has a pid 1 too, but the container's own processes stand above it.
        """
        if self.is_host:
            return
        chain = ancestry(fields)
        at = 0 if fields.vpid == 1 else 1 if fields.pvpid == 1 and len(chain) > 1 else _init_below_runtime(chain)
        if at is None:
            return
        pid, name = chain[at]
        above = chain[at + 1 :]
        if not self.first or (above and is_runtime(above[0][1]) and all(seen[0] != self.first for seen in above)):
            self._first_is(pid, name)
        if at == 0 and self.first == pid:
            self.first_tty = fields.tty or 0

    def note_top(self, path: Sequence[Process]) -> None:
        """Without better knowledge: what stands between the container's runtime and a service is its first process."""
        if self.first or self.is_host:
            return
        for below, process in pairwise(path):
            if is_runtime(process.name):
                self._first_is(below.pid, below.name)
                self.epoch = 0
                return

    @property
    def first_name(self) -> str:
        """The name of the first process, "" while it is unknown: an entry script becomes a service."""
        known = self.lineage[self.first]
        return known.name if known is not None else self._first_name

    def _first_is(self, pid: int, name: str) -> None:
        if pid != self.first:
            self.strangers = NOBODY  # judged without knowing where orphans end up
            self.contexts.changed = True
        self.first, self._first_name, self.epoch = pid, name, pid

    def estrange(self, session: int) -> None:
        """Remember a session that belongs to no context."""
        if len(self.strangers) < SESSIONS:
            self.strangers = {*self.strangers, session}

    def forget_processes(self) -> None:
        """Forget those that were not used for longest, but for those on which contexts hang."""
        self.lineage.forget_unused([pid for _, pid in self.contexts])

    def shorten(self) -> None:
        """Leave the middle half out of every timeline."""
        contexts = (*self.contexts.values(), *self.coarse.values())
        for context in contexts:
            held = len(context.timeline)
            if held > 2 or context.weight > SHORT * held:
                context.shorten()
        self.timelines = sum([context.weight for context in contexts])


def _init_below_runtime(chain: list[tuple[int, str]]) -> int | None:
    below = ""
    for index, (_, name) in enumerate(chain):
        if below in INITS and is_runtime(name):
            return index - 1
        below = name
    return None


def _image(fields: Fields) -> str:
    return f"{fields.image}:{fields.image_tag}" if fields.image and fields.image_tag else fields.image or ""
