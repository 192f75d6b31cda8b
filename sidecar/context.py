"""Execution contexts: the places within which detections are related, kept per container, each with its evidence.

Two levels of TTL caches hold them: containers, and inside each its contexts and remembered processes, with quotas, so
that whoever floods from one container can push out only his own. What a quota pushes out is folded into the
container's coarse context instead of being forgotten.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from cachetools import TTLCache
from msgspec import Struct

from sidecar.lineage import HOST_INITS, INITS, Lineage, Process, Seen, is_runtime
from sidecar.model import Alert, Detection, Fields, Span, Where

CONTEXTS = 256
"""Contexts of one container."""

PROCESSES = 4096
"""Remembered processes of one container."""

DETECTIONS = 64
"""Detections kept for the timeline per context and group, and waiting per container and group."""

SESSIONS = 256
"""Session ids remembered per context, and of strangers per container."""

COARSE = 0
"""In place of an anchor's pid: the context of the container as a whole."""


class Incident(Struct):
    """A case that came true in one context and is still open.

    `rank` is that of the strongest notification so far, `case` the best row reached, `step` how many notifications.
    """

    id: str
    previous: str
    case: int
    rank: int
    step: int
    severity: str
    first: int
    last: int
    count: int


class Context(Struct):
    """One execution context of one correlation rule: its anchor process and the evidence of its members.

    `is_service` is false when the anchor is itself the first detection (systemd starts a shell). `born` is the start
    of the earliest anchoring process; `epoch` the first process of the container then, 0 unknown.
    """

    anchor: int
    name: str
    is_service: bool
    born: int
    epoch: int
    spans: dict[int, Span]
    timeline: list[Detection]
    sessions: set[int]
    newest: int = 0
    alive: int = 0
    """How far anchoring evidence counts as fresh: it slides with every detection of the lineage."""
    fields: Fields | None = None
    """Of the newest detection."""
    incident: Incident | None = None

    def add(self, detection: Detection, fields: Fields, *, window: int, anchoring: int) -> None:
        """Take in one detection."""
        time = detection.time
        mask, bit = detection.groups, 0
        while mask >> bit:
            if mask >> bit & 1:
                span = self.spans.get(bit)
                if span is None:
                    self.spans[bit] = Span(time, time)
                else:
                    span.widen(time)
            bit += 1
        if mask & anchoring or time - self.alive <= window:
            self.alive = max(self.alive, time)
        if time >= self.newest:
            self.newest, self.fields = time, fields
        if self._room_for(mask):
            self.timeline.append(detection)

    def fresh(self, *, window: int, anchoring: int, sticky: int) -> int:
        """The mask of groups that count at the newest evidence."""
        mask = 0
        for bit, span in self.spans.items():
            last = self.alive if anchoring >> bit & 1 else span.last
            if sticky >> bit & 1 or self.newest - last <= window:
                mask |= 1 << bit
        return mask

    def absorb(self, other: "Context") -> None:
        """Take over what a narrower context knew, because it turned out to lie inside this one."""
        for bit, span in other.spans.items():
            mine = self.spans.setdefault(bit, span)
            if mine is not span:
                mine.first, mine.last = min(mine.first, span.first), max(mine.last, span.last)
                mine.count += span.count
        self.timeline = sorted(self.timeline + other.timeline, key=lambda d: d.time)[: DETECTIONS * 4]
        self.sessions |= other.sessions
        self.born = min(self.born, other.born)
        self.alive = max(self.alive, other.alive)
        if other.newest > self.newest:
            self.newest, self.fields = other.newest, other.fields
        self.incident = self.incident or other.incident

    def _room_for(self, mask: int) -> bool:
        return any(mask >> bit & 1 and span.count <= DETECTIONS for bit, span in self.spans.items())


class Waiting(Struct, gc=False):
    """A detection that belongs to no context yet: the web shell that explains it may still arrive."""

    rule: int
    groups: int
    alert: Alert


class _Contexts(TTLCache[tuple[int, int], Context]):
    """The contexts of a container; under its quota the longest unused one is handed to `pushed_out`."""

    def __init__(self, ttl: float, timer: Callable[[], float], pushed_out: Callable[[int, Context], None]) -> None:
        super().__init__(CONTEXTS, ttl, timer)
        self._pushed_out = pushed_out

    def popitem(self) -> tuple[tuple[int, int], Context]:
        key, context = super().popitem()
        self._pushed_out(key[0], context)
        return key, context


class Container:
    """All that is known of one container, or of the host itself (`id` is "" then)."""

    def __init__(self, host: str, cid: str, ttl: float, timer: Callable[[], float]) -> None:
        self.where = Where(host, cid, "", "", "", "")
        self.is_host = not cid
        self.lineage = Lineage(PROCESSES, ttl, timer)
        self.contexts = _Contexts(ttl, timer, self._fold)
        self.coarse: dict[int, Context] = {}
        self.waiting: list[Waiting] = []
        self.strangers: set[int] = set()
        self.first = 0
        self.first_name = ""
        self.first_tty = 0
        self.epoch = 0
        self.folded = 0
        self.kept = timer()

    def of_rule(self, rule: int) -> Iterator[Context]:
        """The contexts of one correlation rule, without the coarse one."""
        return (context for (index, _), context in self.contexts.items() if index == rule)

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

    def _fold(self, rule: int, context: Context) -> None:
        self.folded += 1
        coarse = self.coarse.get(rule)
        if coarse is None:
            self.coarse[rule] = context
        else:
            coarse.absorb(context)


def _init_below_runtime(chain: list[Seen]) -> int | None:
    for index, (below, process) in enumerate(pairwise(chain)):
        if is_runtime(process.name) and below.name in INITS:
            return index
    return None


def _image(fields: Fields) -> str:
    return f"{fields.image}:{fields.image_tag}" if fields.image and fields.image_tag else fields.image or ""


class Containers:
    """The outer level: containers by (host, id), each kept for `ttl` seconds after its last detection."""

    def __init__(self, quota: int, ttl: float, timer: Callable[[], float]) -> None:
        self._containers: TTLCache[tuple[str, str], Container] = TTLCache(quota, ttl, timer)
        self._ttl = ttl
        self._timer = timer
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._containers)

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._containers.values()))

    def of(self, host: str, cid: str) -> Container:
        """The container of an alert, made at its first."""
        key = (host, cid)
        found = self._containers.get(key)
        now = self._timer()
        if found is None:
            self.evicted += len(self._containers) >= self._containers.maxsize
            found = self._containers[key] = Container(host, cid, self._ttl, self._timer)
        elif now - found.kept > self._ttl / 16:
            found.kept = now
            self._containers[key] = found
        return found
