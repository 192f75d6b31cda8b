"""Detections of one container that belong to no context yet: the web shell that explains them may still arrive.

Most wait in vain, so they are kept packed.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import chain
from operator import attrgetter

from msgspec import Struct

from sidecar.model import Alert
from sidecar.packed_alert import pack, unpack
from sidecar.rules.change import Successor

MAX_PER_KIND = 64
"""Detections that are kept for each container, correlation rule and set of groups."""

OVERHEAD_BYTES = 300
"""Bytes of a pending detection beside its packed alert, with its share of the lists."""

_NUMBERS = re.compile(r"[0-9]+")


class PendingDetection(Struct, gc=False):
    """A detection that waits for a context of correlation rule `rule`; `groups` is its mask, `time` in nanoseconds."""

    rule: int
    groups: int
    time: int
    pid: int
    start: int
    """When the process started (ns), 0 if unknown."""
    fingerprint: int
    """Identifies its behaviour."""
    packed: bytes

    @property
    def alert(self) -> Alert:
        """The alert, unpacked."""
        return unpack(self.packed)

    @property
    def size(self) -> int:
        """Bytes of memory that it takes."""
        return OVERHEAD_BYTES + len(self.packed)


class PendingDetections:
    """The pending detections of one container, the earliest of each kind first.

    `size` is what all take, in bytes; none happened before `oldest` (ns), except those that arrived out of order.
    """

    __slots__ = ("_kinds", "oldest", "size")

    def __init__(self) -> None:
        self.size = 0
        self.oldest = 0
        self._kinds: dict[tuple[int, int], list[PendingDetection]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._kinds.values()))

    def __iter__(self) -> Iterator[PendingDetection]:
        return chain.from_iterable(self._kinds.values())

    def add(self, rule: int, groups: int, alert: Alert, horizon: int) -> None:
        """Add a detection. If its kind is full, what is older than `horizon` (ns) is dropped, else its oldest one."""
        same = self._kinds.setdefault((rule, groups), [])
        if len(same) >= MAX_PER_KIND:
            if same[0].time < horizon:
                self.drop_before(horizon)
                same = self._kinds.setdefault((rule, groups), [])
            else:
                self.size -= same.pop(0).size
        if not self.size:
            self.oldest = alert.time
        packed = pack(alert)
        process = alert.fields.pid or 0, alert.fields.start or 0
        detection = PendingDetection(rule, groups, alert.time, *process, fingerprint(alert), packed)
        same.append(detection)
        self.size += OVERHEAD_BYTES + len(packed)

    def drop_before(self, horizon: int) -> None:
        """Drop what happened before a time (ns): it no longer counts for anything."""
        kinds = self._kinds.items()
        self._replace({kind: [each for each in pending if each.time >= horizon] for kind, pending in kinds})

    def drop_older_half(self) -> None:
        """Drop the earlier half of each kind, at least one."""
        self._replace({kind: pending[len(pending) // 2 + 1 :] for kind, pending in self._kinds.items()})

    def drain(self) -> list[PendingDetection]:
        """Remove and return everything, the oldest first."""
        pending = sorted(self, key=attrgetter("time"))
        self._replace({})
        return pending

    def translate(self, successors: Mapping[int, Successor]) -> None:
        """Give each detection the index and the groups of its changed rule; those without groups are dropped."""
        kinds: dict[tuple[int, int], list[PendingDetection]] = {}
        for (rule, groups), pending in self._kinds.items():
            successor = successors.get(rule)
            kind = (successor.index, successor.mask(groups)) if successor is not None else (0, 0)
            for each in pending if kind[1] else ():
                each.rule, each.groups = kind
                kinds.setdefault(kind, []).append(each)
        self._replace({kind: sorted(each, key=attrgetter("time"))[-MAX_PER_KIND:] for kind, each in kinds.items()})

    def _replace(self, kinds: dict[tuple[int, int], list[PendingDetection]]) -> None:
        self._kinds = {kind: pending for kind, pending in kinds.items() if pending}
        self.size = sum([each.size for each in self])
        self.oldest = min([pending[0].time for pending in self._kinds.values()], default=0)


def fingerprint(alert: Alert) -> int:
    """Identifies the behaviour that an alert shows: its Falco rule, and its command with numbers left out."""
    return hash((alert.rule, _NUMBERS.sub("", alert.fields.cmdline or "")))
