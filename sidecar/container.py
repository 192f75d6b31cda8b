"""All that is known of one container: its contexts, its processes, and what waits for an explanation.

Everything has a quota, so whoever floods from one container can push out only his own; and what the quota pushes out is
folded into the container's coarse context instead of being forgotten.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from cachetools import LRUCache
from msgspec import Struct

from sidecar.context import SESSIONS, Context
from sidecar.lineage import HOST_INITS, INITS, Lineage, Process, Seen, is_runtime
from sidecar.model import Alert, Fields, Where

CONTEXTS = 256
"""Contexts of one container."""

PROCESSES = 4096
"""Remembered processes of one container."""

WAITING = 64
"""Detections without a context that are kept, per container and group."""

COARSE = 0
"""In place of an anchor's pid: the context of the container as a whole."""


class Waiting(Struct, gc=False):
    """A detection that belongs to no context yet: the web shell that explains it may still arrive."""

    rule: int
    groups: int
    alert: Alert


class Contexts(LRUCache[tuple[int, int], Context]):
    """The contexts of a container by (correlation rule, anchor's pid): they live as long as it does.

    Under its quota the longest unused one is folded into `coarse`, the context of the whole container for its rule.
    """

    def __init__(self) -> None:
        super().__init__(CONTEXTS)
        self.coarse: dict[int, Context] = {}
        self.folded = 0

    def popitem(self) -> tuple[tuple[int, int], Context]:
        """Fold the longest unused context."""
        key, context = super().popitem()
        self.folded += 1
        coarse = self.coarse.setdefault(key[0], context)
        if coarse is not context:
            coarse.absorb(context)
        return key, context


class Use(NamedTuple):
    """How much a container holds of what all share."""

    contexts: int = 0
    processes: int = 0
    waiting: int = 0
    detections: int = 0


class Container:
    """All that is known of one container, or of the host itself (`id` is "" then)."""

    def __init__(self, host: str, cid: str, ttl: float, timer: Callable[[], float]) -> None:
        self.where = Where(host, cid, "", "", "", "")
        self.is_host = not cid
        self.lineage = Lineage(PROCESSES, ttl, timer)
        self.contexts = Contexts()
        self.coarse = self.contexts.coarse
        self.waiting: list[Waiting] = []
        self.strangers: set[int] = set()
        self.first = 0
        self.first_name = ""
        self.first_tty = 0
        self.epoch = 0
        self.detections = 0
        """Entries of all its timelines, at the most: what folding leaves out stays counted until they are shortened."""
        self.counted = Use()
        """What of it the budgets of all containers have counted."""
        self.kept = timer()

    @property
    def use(self) -> Use:
        """How much it holds now."""
        contexts = len(self.contexts) + len(self.coarse)
        return Use(contexts, len(self.lineage), len(self.waiting), self.detections)

    def of_rule(self, rule: int) -> Iterator[Context]:
        """The contexts of one correlation rule, without the coarse one."""
        return (context for (index, _), context in self.contexts.items() if index == rule)

    def context(self, rule: int, anchor: Process) -> Context | None:
        """The context that hangs on a process; when it was folded, the coarse one."""
        if not anchor.anchors:
            return None
        return self.contexts.get((rule, anchor.pid)) or self.coarse.get(rule)

    def is_init(self, pid: int) -> bool:
        """Whether orphans end up below this process."""
        if pid in (0, 1, self.first):
            return True
        process = self.lineage[pid]
        return self.is_host and process is not None and process.name in HOST_INITS

    def note_place(self, fields: Fields) -> None:
        """Fill in names that Falco learns only after a container's first events."""
        known = self.where
        if not known.pod or not known.container_name:
            self.where = Where(
                known.host,
                known.container,
                known.container_name or fields.container_name or "",
                known.image or _image(fields),
                known.namespace or fields.namespace or "",
                known.pod or fields.pod or "",
            )

    def note_first(self, fields: Fields, chain: list[Seen]) -> None:
        """Learn which process is the container's first: the one with pid 1 inside it.

        A nested PID namespace (`unshare --pid`) has a pid 1 too, but the container's own processes stand above it.
        """
        if self.is_host or not chain:
            return
        at = 0 if fields.vpid == 1 else 1 if fields.pvpid == 1 and len(chain) > 1 else _init_below_runtime(chain)
        if at is None:
            return
        above = chain[at + 1 :]
        nested = any(seen.pid == self.first for seen in above)
        if not nested and (not self.first or (above and is_runtime(above[0].name))):
            self._first_is(chain[at].pid, chain[at].name)
        if at == 0 and self.first == chain[0].pid:
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

    def _first_is(self, pid: int, name: str) -> None:
        if pid != self.first:
            self.strangers.clear()  # judged without knowing where orphans end up
        self.first, self.first_name, self.epoch = pid, name, pid

    def estrange(self, session: int) -> None:
        """Remember a session that belongs to no context."""
        if len(self.strangers) < SESSIONS:
            self.strangers.add(session)

    def wait(self, waiting: Waiting, horizon: int) -> None:
        """Keep a detection for later; what is older than `horizon` goes first, then the oldest of its kind."""
        if len(self.waiting) >= WAITING:
            self.waiting = [held for held in self.waiting if held.alert.time >= horizon]
        same = [i for i, held in enumerate(self.waiting) if held.rule == waiting.rule and held.groups == waiting.groups]
        if len(same) >= WAITING:
            del self.waiting[same[0]]
        self.waiting.append(waiting)

    def fold(self, count: int) -> None:
        """Fold the `count` longest unused contexts into the coarse ones."""
        for _ in range(min(count, len(self.contexts))):
            self.contexts.popitem()

    def shorten(self) -> None:
        """Leave the middle half out of every timeline."""
        self.detections = 0
        for context in (*self.contexts.values(), *self.coarse.values()):
            context.shorten()
            self.detections += len(context.timeline)

    def wait_less(self) -> None:
        """Give up the older half of what waits."""
        del self.waiting[: len(self.waiting) // 2 + 1]


def _init_below_runtime(chain: list[Seen]) -> int | None:
    for index, (below, process) in enumerate(pairwise(chain)):
        if is_runtime(process.name) and below.name in INITS:
            return index
    return None


def _image(fields: Fields) -> str:
    return f"{fields.image}:{fields.image_tag}" if fields.image and fields.image_tag else fields.image or ""
