"""An execution context: the place within which detections are related, its evidence, and its open incident."""

from msgspec import Struct
from msgspec.structs import replace

from sidecar.model import Detection, Span

DETECTIONS = 64
"""Detections kept for the timeline per context and group; beyond them only first, last and count go on."""

SESSIONS = 256
"""Session ids remembered per context, and of strangers per container."""


CUT = 80
"""Characters of a text that are left when memory is short."""

BARE = 700
"""Bytes of a detection in a timeline without its texts."""


def weight(detection: Detection) -> int:
    """What a detection in a timeline takes, in bytes."""
    return BARE + len(detection.cmdline) + len(detection.detail)


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
    incomplete: bool = False
    """Falco dropped events while it was open: evidence may be missing."""


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
    incident: Incident | None = None

    def add(self, detection: Detection, *, window: int, anchoring: int) -> int:
        """Take in one detection; returns by how many bytes the timeline grew."""
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
        self.newest = max(self.newest, time)
        if not self._room_for(mask):
            return 0
        self.timeline.append(detection)
        return weight(detection)

    def shorten(self) -> None:
        """Leave the middle half out of the timeline: how it began and where it stands tell most. Then cut its texts."""
        quarter = max(len(self.timeline) // 4, 1)
        if len(self.timeline) > 2 * quarter:
            del self.timeline[quarter : len(self.timeline) - quarter]
        else:
            self.timeline = [
                replace(each, cmdline=each.cmdline[:CUT], detail=each.detail[:CUT]) for each in self.timeline
            ]

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
        self.timeline += other.timeline[: max(DETECTIONS * 4 - len(self.timeline), 0)]
        if len(self.sessions) < SESSIONS:
            self.sessions |= other.sessions
        self.born = min(self.born, other.born)
        self.alive = max(self.alive, other.alive)
        self.newest = max(self.newest, other.newest)
        self.incident = self.incident or other.incident

    def _room_for(self, mask: int) -> bool:
        return any(mask >> bit & 1 and span.count <= DETECTIONS for bit, span in self.spans.items())
