"""Evidence becomes incidents: the window, the case table, and who is told when.

An incident only rises. Its first case and each stronger one is a notification; a better row of equal severity is taken
over silently, repeats are counted. One kernel event can fire several Falco rules, one alert each: notifications wait
until the event is complete (`settle`), so that it speaks once, with all it carried.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import islice

from sidecar.correlation.memory.context import Incident
from sidecar.correlation.notification import notification
from sidecar.correlation.placement import Placed
from sidecar.model import Notification
from sidecar.rules.rule import CorrelationRule

CHANGED = 1_000
"""Incidents with evidence that is not shown yet; beyond it the next evidence of an incident brings it."""


class Correlator:
    """Turns placed detections into notifications."""

    def __init__(self, rules: Sequence[CorrelationRule]) -> None:
        self._rules = rules
        self.unsettled: dict[str, Placed] = {}
        """By incident: what waits for its event to be complete."""
        self._event: tuple[object, ...] = ()
        self.changed: dict[str, Placed] | None = None
        """If somebody asks `news`: the newest evidence of each incident that got some since."""
        self.opened = 0

    def take(self, placed: Iterable[Placed], event: tuple[object, ...]) -> list[Notification]:
        """Add detections; `event` identifies the kernel event that brought them. Returns what is due now."""
        due = self.settle(event) if self.unsettled else []
        for one in placed:
            self._add(one)
        self._event = event
        return due

    def settle(self, event: tuple[object, ...] = ()) -> list[Notification]:
        """The notifications that wait, unless `event` (host, time, pid if known) is still the one they came with."""
        if not self.unsettled or (event and event == self._event[: len(event)]):
            return []
        waiting, self.unsettled = self.unsettled, {}
        return [note for one in waiting.values() if (note := self._escalated(one)) is not None]

    def news(self, most: int, prefix: str = "") -> list[Notification]:
        """Incidents that got evidence since this was last asked, at most so many, as they are now. Sinks get none.

        Those whose id begins with `prefix` come first.
        """
        found: list[Notification] = []
        changed = self.changed or {}
        wanted = [name for name in changed if name.startswith(prefix)] if prefix else []
        for name in [*dict.fromkeys([*wanted, *islice(changed, most)])][:most]:
            placed = changed.pop(name)
            incident = placed.context.incident
            if incident is not None and incident.id == name and name not in self.unsettled:
                found.append(notification(placed, self._rules[placed.rule], incident, incident.severity))
        return found

    def _add(self, placed: Placed) -> None:
        rule, context, time = self._rules[placed.rule], placed.context, placed.detection.time
        placed.container.timelines += context.add(placed.detection, rule.window, rule.anchoring, rule.sticky)
        case = rule.outcomes[context.mask]
        incident = context.incident
        if incident is None or time - incident.last > rule.quiet or time - incident.first > rule.longest:
            if case < 0:
                return
            incident = context.incident = self._opened(placed, case)
        else:
            incident.widen(time, case)
            if self.changed is not None and len(self.changed) < CHANGED:
                self.changed[incident.id] = placed
        if rule.cases[incident.case].rank > incident.rank:
            self.unsettled[incident.id] = placed

    def _opened(self, placed: Placed, case: int) -> Incident:
        context, rule = placed.context, self._rules[placed.rule]
        previous = context.incident.id if context.incident else ""
        first = min(span.first for span in context.spans.values()) if not previous else placed.detection.time
        last = max(context.newest, placed.detection.time)
        count = sum(span.count for span in context.spans.values()) if not previous else 1
        self.opened += 1
        return Incident(_id(placed, rule, previous), previous, case, 0, 0, "", first, last, count)

    def _escalated(self, placed: Placed) -> Notification | None:
        incident, rule = placed.context.incident, self._rules[placed.rule]
        if incident is None:
            return None
        case = rule.cases[incident.case]
        came_from, incident.severity = incident.severity, case.severity
        incident.rank = case.rank
        incident.step += 1
        return notification(placed, rule, incident, came_from)


def _id(placed: Placed, rule: CorrelationRule, previous: str) -> str:
    """The same stream in any order gives the same id: it names the place and the day, not the deciding alert."""
    context, where = placed.context, placed.container.where
    day = placed.detection.time // 86_400_000_000_000
    name = f"{rule.id}|{where.host}|{where.container}|{context.anchor}|{day}|{previous}"
    return blake2b(name.encode("utf-8", "replace"), digest_size=8).hexdigest()
