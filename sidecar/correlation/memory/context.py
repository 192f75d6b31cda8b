"""An execution context: the place within which detections are related, its evidence, and its open incident."""

from msgspec import Struct
from msgspec.structs import replace

from sidecar.model import Detection, Span

DETECTIONS = 64
"""Detections kept for the timeline per context and group; beyond them only first, last and count go on."""

MOST = 4 * DETECTIONS
"""Detections that a context may have after it took over others."""

SESSIONS = 256
"""Session ids remembered per context, and of strangers per container."""


CUT = 80
"""Characters of a text that are left when memory is short."""

BARE = 700
"""Bytes of a detection in a timeline without its texts."""

SHORT = BARE + CUT
"""Bytes of one whose texts are cut."""


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

    def widen(self, time: int, case: int) -> None:
        """Take in one more piece of evidence, and the case that holds with it (-1 none)."""
        self.count += 1
        if time > self.last:
            self.last = time
        elif time < self.first:
            self.first = time
        if 0 <= case < self.case:
            self.case = case


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
    weight: int = 0
    """Bytes of the timeline."""
    mask: int = 0
    """The groups that count at the newest evidence."""
    until: int = 0
    """How long newer evidence changes nothing of that but to add its own groups."""

    def add(self, detection: Detection, window: int, anchoring: int, sticky: int) -> int:
        """Take in one detection; returns by how many bytes the timeline grew."""
        time, mask, has_room = detection.time, detection.groups, False
        for bit in _BITS.get(mask) or _bits(mask):
            span = self.spans.get(bit)
            if span is None:
                self.spans[bit] = Span(time, time)
                has_room = True
                continue
            span.count += 1
            if time > span.last:
                span.last = time
            elif time < span.first:
                span.first = time
            has_room = has_room or span.count <= DETECTIONS
        if time > self.alive and (mask & anchoring or time - self.alive <= window):
            self.alive = time
        if self.newest <= time <= self.until and not mask & anchoring:
            self.newest = time
            self.mask |= mask
        else:
            self._look(time, window, anchoring, sticky)
        if not has_room:
            return 0
        self.timeline.append(detection)
        grown = weight(detection)
        self.weight += grown
        return grown

    def _look(self, time: int, window: int, anchoring: int, sticky: int) -> None:
        """Look anew which groups count, and until when."""
        self.newest = max(self.newest, time)
        self.mask = self.fresh(window, anchoring, sticky)
        held = self.mask & ~sticky
        lasts = [
            self.alive if anchoring >> bit & 1 else span.last for bit, span in self.spans.items() if held >> bit & 1
        ]
        self.until = min(lasts, default=self.newest) + window

    def shorten(self) -> None:
        """Leave the middle half out of the timeline: how it began and where it stands tell most. Then cut its texts."""
        quarter = max(len(self.timeline) // 4, 1)
        if len(self.timeline) > 2 * quarter:
            del self.timeline[quarter : len(self.timeline) - quarter]
        elif self.weight > SHORT * len(self.timeline):
            self.timeline = [
                replace(each, cmdline=each.cmdline[:CUT], detail=each.detail[:CUT]) for each in self.timeline
            ]
        else:
            return
        self.weight = sum(map(weight, self.timeline))

    def fresh(self, window: int, anchoring: int, sticky: int) -> int:
        """The mask of groups that count at the newest evidence."""
        mask, horizon = 0, self.newest - window
        for bit, span in self.spans.items():
            group = 1 << bit
            if sticky & group or (self.alive if anchoring & group else span.last) >= horizon:
                mask |= group
        return mask

    def absorb(self, other: "Context") -> None:
        """Take over what a narrower context knew, because it turned out to lie inside this one."""
        for bit, span in other.spans.items():
            mine = self.spans.get(bit)
            if mine is None:
                self.spans[bit] = span
            else:
                mine.join(span)
        timeline, others = self.timeline, other.timeline
        room = MOST - len(timeline)
        if room >= len(others):
            timeline += others
            self.weight += other.weight
        else:
            fitting = others[: max(room, 0)]
            timeline += fitting
            self.weight += sum(map(weight, fitting))
        if other.born < self.born:
            self.born = other.born
        if other.alive > self.alive:
            self.alive = other.alive
        if other.newest > self.newest:
            self.newest = other.newest
        if self.incident is None:
            self.incident = other.incident
        self.until = 0


_BITS: dict[int, tuple[int, ...]] = {}


def _bits(mask: int) -> tuple[int, ...]:
    """The numbers of the bits that are set; there are as many masks as a case table has entries."""
    return _BITS.setdefault(mask, tuple(bit for bit in range(mask.bit_length()) if mask >> bit & 1))
