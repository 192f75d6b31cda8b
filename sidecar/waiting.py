"""Detections of one container that belong to no context yet: the web shell that explains them may still arrive."""

import sys
from collections.abc import Iterator
from operator import attrgetter

import msgspec
from msgspec import Struct

from sidecar.decode import TEXTS
from sidecar.model import Alert

WAITING = 64
"""Detections that are kept, per container, correlation rule and groups."""

BARE = 1000
"""Bytes of one without its texts."""

SHORT = 64
"""Characters of a text that others may have too."""

_texts = attrgetter(*TEXTS)


class Waiting(Struct, gc=False):
    """One detection that waits; `weight` is what it takes, in bytes."""

    rule: int
    groups: int
    alert: Alert
    weight: int


class WaitingRoom:
    """What waits in one container, the earliest come first; `weight` is that of all, in bytes."""

    __slots__ = ("_held", "weight")

    def __init__(self) -> None:
        self.weight = 0
        self._held: list[Waiting] = []

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._held)

    def add(self, rule: int, groups: int, alert: Alert, horizon: int) -> None:
        """Keep a detection for later; what is older than `horizon` goes first, then the oldest of its kind."""
        if len(self._held) >= WAITING:
            self.forget_before(horizon)
        same = [held for held in self._held if held.rule == rule and held.groups == groups]
        if len(same) >= WAITING:
            self._keep([held for held in self._held if held is not same[0]])
        weight = BARE + sum(map(len, filter(None, _texts(alert.fields))))
        self._held.append(Waiting(rule, groups, _shared(alert), weight))
        self.weight += weight

    def forget_before(self, horizon: int) -> None:
        """Forget what happened before a time: it counts for nothing any more."""
        self._keep([held for held in self._held if held.alert.time >= horizon])

    def forget_half(self) -> None:
        """Forget the half that came first."""
        self._keep(self._held[len(self._held) // 2 + 1 :])

    def emptied(self) -> list[Waiting]:
        """Everything that waited, to be tried again."""
        held = self._held
        self._keep([])
        return held

    def _keep(self, held: list[Waiting]) -> None:
        self._held = held
        self.weight = sum(each.weight for each in held)


def _shared(alert: Alert) -> Alert:
    """The same alert, its short texts shared with all others that have them: names and tags are much of its size."""
    fields = msgspec.structs.replace(alert.fields)
    for name, text in zip(TEXTS, _texts(fields), strict=True):
        if text is not None and len(text) < SHORT:
            setattr(fields, name, sys.intern(text))
    tags = tuple(map(sys.intern, alert.tags))
    return Alert(alert.time, sys.intern(alert.host), sys.intern(alert.rule), tags, fields)
