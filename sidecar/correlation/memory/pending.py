"""Detections of one container that belong to no context yet: the web shell that explains them may still arrive.

Most wait in vain, so they are kept packed: half the memory, and a third of the time, of objects for every field.
"""

from collections.abc import Iterator
from itertools import chain
from operator import attrgetter

from msgspec import Struct, msgpack
from msgspec.structs import astuple

from sidecar.model import Alert, Fields

WAITING = 64
"""Detections that are kept, per container, correlation rule and groups."""

BARE = 300
"""Bytes of one beside its packed alert, with its share of the lists."""

_pack = msgpack.Encoder().encode
_unpack = msgpack.Decoder().decode


class Waiting(Struct, gc=False):
    """One detection that waits, for `rule` and its `groups`."""

    rule: int
    groups: int
    time: int
    pid: int
    deed: int
    """Stands for its Falco rule and command line."""
    packed: bytes

    @property
    def alert(self) -> Alert:
        """The alert that it was."""
        time, host, rule, tags, fields = _unpack(self.packed)
        return Alert(time, host, rule, tuple(tags), Fields(*fields))


class WaitingRoom:
    """What waits in one container, the earliest of each kind first.

    `weight` is that of all, in bytes; nothing in it happened before `oldest`, unless it came out of order.
    """

    __slots__ = ("_kinds", "oldest", "weight")

    def __init__(self) -> None:
        self.weight = self.oldest = 0
        self._kinds: dict[tuple[int, int], list[Waiting]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._kinds.values()))

    def __iter__(self) -> Iterator[Waiting]:
        return chain.from_iterable(self._kinds.values())

    def add(self, rule: int, groups: int, alert: Alert, horizon: int) -> None:
        """Keep a detection for later; what is older than `horizon` goes first, then the oldest of its kind."""
        same = self._kinds.setdefault((rule, groups), [])
        if len(same) >= WAITING:
            if same[0].time < horizon:
                self.forget_before(horizon)
                same = self._kinds.setdefault((rule, groups), [])
            else:
                self.weight -= weight(same.pop(0))
        if not self.weight:
            self.oldest = alert.time
        fields = alert.fields
        packed = _pack((alert.time, alert.host, alert.rule, alert.tags, astuple(fields)))
        held = Waiting(rule, groups, alert.time, fields.pid or 0, deed(alert), packed)
        same.append(held)
        self.weight += weight(held)

    def forget_before(self, horizon: int) -> None:
        """Forget what happened before a time: it counts for nothing any more."""
        kinds = self._kinds.items()
        self._keep({kind: [each for each in held if each.time >= horizon] for kind, held in kinds})

    def forget_half(self) -> None:
        """Forget the half of each kind that came first."""
        self._keep({kind: held[len(held) // 2 + 1 :] for kind, held in self._kinds.items()})

    def emptied(self) -> list[Waiting]:
        """Everything that waited, to be tried again, the oldest first."""
        held = sorted(self, key=attrgetter("time"))
        self._keep({})
        return held

    def _keep(self, kinds: dict[tuple[int, int], list[Waiting]]) -> None:
        self._kinds = {kind: held for kind, held in kinds.items() if held}
        self.weight = sum(map(weight, self))
        self.oldest = min([held[0].time for held in self._kinds.values()], default=0)


def weight(held: Waiting) -> int:
    """What a waiting detection takes, in bytes."""
    return BARE + len(held.packed)


def deed(alert: Alert) -> int:
    """What stands for the Falco rule and the command line of an alert: a habit shows in both."""
    return hash((alert.rule, alert.fields.cmdline))
