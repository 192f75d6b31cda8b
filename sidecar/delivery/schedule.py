"""In which order a sink gets its messages.

The steps of one incident stay in their order. Between incidents, those with a critical step pending go first, and
containers take turns: a container that floods delays its own incidents only.
"""

from collections import deque
from collections.abc import Callable, Iterator

from sidecar.model import Outgoing

Lane = dict[str, dict[str, None]]
"""Places, the next one first, with their incidents in the order in which they came."""


class Pending:
    """One message for one sink. Times are monotonic seconds.

    `is_stored` says that the state file has it; only then may `out.body` be given up (`out` is None).
    """

    __slots__ = ("attempts", "incident", "is_stored", "is_urgent", "key", "out", "place", "rest_until", "since", "size")

    def __init__(self, key: str, out: Outgoing | None, place: str, *, since: float, is_stored: bool) -> None:
        self.key = key
        self.out = out
        self.place = place
        self.since = since
        self.is_stored = is_stored
        self.incident, step, _ = key.rsplit(":", 2)
        self.is_urgent = step not in ("low", "medium", "high")
        self.attempts = 0
        self.rest_until = 0.0
        self.size = len(out.body) if out is not None else 0


class _Steps:
    """What is pending of one incident, in order."""

    __slots__ = ("items", "place")

    def __init__(self, place: str) -> None:
        self.place = place
        self.items: deque[Pending] = deque()


class Schedule:
    """All that is pending for one sink."""

    def __init__(self) -> None:
        self._incidents: dict[str, _Steps] = {}
        self._urgent: Lane = {}
        self._normal: Lane = {}
        self._keys: dict[str, Pending] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[Pending]:
        return iter(self._keys.values())

    def add(self, item: Pending) -> None:
        """Add a message behind the earlier steps of its incident."""
        self._keys[item.key] = item
        steps = self._incidents.setdefault(item.incident, _Steps(item.place))
        before = self._lane(steps) if steps.items else None
        steps.items.append(item)
        self._move(item.incident, steps.place, before, self._lane(steps))

    def next(self, now: float) -> Pending | None:
        """The message to send now; None if all that is pending rests."""
        for lane in (self._urgent, self._normal):
            for incidents in lane.values():
                for incident in incidents:
                    item = self._incidents[incident].items[0]
                    if item.rest_until <= now:
                        return item
        return None

    def next_due(self) -> float:
        """When the first resting message is due."""
        return min(steps.items[0].rest_until for steps in self._incidents.values())

    def remove(self, item: Pending) -> None:
        """Take out what was sent, refused or dropped; its place goes to the end of its lane."""
        del self._keys[item.key]
        steps = self._incidents[item.incident]
        before = self._lane(steps)
        steps.items.remove(item)
        if not steps.items:
            del self._incidents[item.incident]
        self._move(item.incident, steps.place, before, self._lane(steps) if steps.items else None)
        if steps.place in before:
            before[steps.place] = before.pop(steps.place)

    def to_drop(self, may_go: Callable[[Pending], bool]) -> Pending | None:
        """What to give up when something must be: the oldest of the place with most incidents, critical ones last."""
        for lane in (self._normal, self._urgent):
            for incidents in sorted(lane.values(), key=len, reverse=True):
                for incident in incidents:
                    for item in self._incidents[incident].items:
                        if may_go(item):
                            return item
        return None

    def _lane(self, steps: _Steps) -> Lane:
        return self._urgent if any(item.is_urgent for item in steps.items) else self._normal

    def _move(self, incident: str, place: str, before: Lane | None, after: Lane | None) -> None:
        if before is after:
            return
        if before is not None:
            del before[place][incident]
            if not before[place]:
                del before[place]
        if after is not None:
            after.setdefault(place, {})[incident] = None
