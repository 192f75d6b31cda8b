"""How many notifications one container may cause, so that a flood from one is not everybody's.

The first incidents of a container are sent one by one, critical ones with a quota of their own; what comes beyond is
kept for pages and API, and summarized in one message after a while. A step of an incident that was announced is always
sent.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from sidecar.correlation.notification import place
from sidecar.model import MORE_INCIDENTS, RANK, Message, Notification, Report, Severity, Where

WINDOW_SECONDS = 600.0
"""In which a container may open ALLOWED incidents."""

ALLOWED = 20
"""Incidents that are sent one by one, for critical ones and for the others each."""

DIGEST_SECONDS = 60.0
"""After which what was left out is summarized; later summaries of the same container come once in a window."""

MAX_PLACES = 4096
"""Containers that are remembered; the one silent for longest is evicted first."""

MAX_ANNOUNCED = 200
"""Incidents of a container whose steps are sent."""

MAX_SERVICES = 16
"""Services of a host that have a quota each, as a container has; the others share one. Names can be made up."""


class _Place:
    """What one container caused in its window. Times are monotonic seconds."""

    __slots__ = ("announced", "digest_at", "left_out", "sent", "service", "until", "where", "worst")

    def __init__(self, where: Where, service: str, until: float) -> None:
        self.where = where
        self.service = service
        self.until = until
        self.sent = {True: 0, False: 0}
        self.announced: OrderedDict[str, None] = OrderedDict()
        self.left_out: set[str] = set()
        self.worst: Severity = "low"
        self.digest_at = 0.0


class Quota:
    """Decides which messages are sent. `left_out` counts incidents that were only summarized."""

    def __init__(
        self,
        timer: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self.left_out = 0
        self._timer = timer
        self._wall = wall
        self._places: OrderedDict[tuple[str, str, str], _Place] = OrderedDict()

    def allows(self, message: Message) -> bool:
        """Whether this message is sent; otherwise it is counted for the next digest."""
        if not isinstance(message, Notification):
            return True
        now = self._timer()
        state = self._place(message, now)
        is_critical = message.severity == "critical"
        if message.incident in state.announced and not (is_critical and state.sent[True] >= 10 * ALLOWED):
            return True
        if state.sent[is_critical] < ALLOWED:
            state.sent[is_critical] += 1
            state.announced[message.incident] = None
            if len(state.announced) > MAX_ANNOUNCED:
                state.announced.popitem(last=False)
            return True
        self._leave_out(state, message, now)
        return False

    def digests(self) -> list[Report]:
        """The summaries that are due."""
        now = self._timer()
        return [
            self._digest(state, now) for state in self._places.values() if state.left_out and state.digest_at <= now
        ]

    def _place(self, note: Notification, now: float) -> _Place:
        where = note.where
        key = where.host, where.container, self._service(note)
        state = self._places.get(key)
        if state is None:
            state = self._places[key] = _Place(where, key[2], now + WINDOW_SECONDS)
            if len(self._places) > MAX_PLACES:
                self._forget_one()
        elif state.until <= now:
            state.until = now + WINDOW_SECONDS
            state.sent = {True: 0, False: 0}
        self._places.move_to_end(key)
        return state

    def _service(self, note: Notification) -> str:
        """On a host, the service whose processes the incident is about; "" in a container."""
        where = note.where
        if where.container or not note.timeline:
            return ""
        service = note.timeline[0][0].path[-1][1]
        services = [name for host, container, name in self._places if (host, container) == (where.host, "")]
        return service if service in services or len(services) < MAX_SERVICES else ""

    def _forget_one(self) -> None:
        key = next((key for key, state in self._places.items() if not state.left_out), next(iter(self._places)))
        del self._places[key]

    def _leave_out(self, state: _Place, note: Notification, now: float) -> None:
        if not state.left_out:
            state.digest_at = max(state.digest_at, now + DIGEST_SECONDS)
            state.worst = "low"
        if note.incident not in state.left_out:
            self.left_out += 1
        state.left_out.add(note.incident)
        if RANK[note.severity] > RANK[state.worst]:
            state.worst = note.severity

    def _digest(self, state: _Place, now: float) -> Report:
        count = len(state.left_out)
        state.left_out = set()
        state.digest_at = now + WINDOW_SECONDS
        more = "1 more incident" if count == 1 else f"{count} more incidents"
        service = f"of {state.service} " if state.service else ""
        where = f"{service}in {place(state.where)}"
        text = f"{more} {where}, up to {state.worst}: too many to be sent one by one, all are on the pages"
        return Report(MORE_INCIDENTS, state.worst, text, state.where, self._wall())
