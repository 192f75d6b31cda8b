"""Turns evidence into incidents: the window, the case table, and when a notification is due.

An incident only rises. Its first case and each stronger one is a notification; a better row of equal severity is
adopted silently, repeats are counted. One kernel event can fire several Falco rules, with one alert each: notifications
wait until the event is complete (`flush`), so that there is one for all that the event carried.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import islice

from msgspec.structs import replace

from sidecar.correlation.memory.context import OpenIncident
from sidecar.correlation.notification import notification
from sidecar.correlation.placement import PlacedDetection
from sidecar.model import Notification
from sidecar.rules.change import Successor
from sidecar.rules.rule import CorrelationRule

MAX_UPDATED_INCIDENTS = 1_000
"""Incidents with unreported evidence that are tracked; beyond that an incident is reported with its next evidence."""

MAX_HOSTS = 1_000
"""Hosts whose dropped events are tracked."""

MAX_PAST_INCIDENTS = 4_096
MAX_PAST_INCIDENTS_OF_A_PLACE = 16
"""Incidents that are remembered longer than their contexts, so that the next one there is another one and names it."""

DAY_NS = 86_400_000_000_000


class PastIncidents:
    """The latest incident of each context by rule, place and anchor; of too many, the place used longest ago gives."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str, str], dict[int, OpenIncident]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, placed: PlacedDetection, rule: CorrelationRule, incident: OpenIncident) -> None:
        """Remember the incident of a context."""
        key = self._key(placed, rule)
        own = self._places[key] = self._places.pop(key, {})
        self._count -= own.pop(placed.context.anchor, None) is not None
        own[placed.context.anchor] = incident
        self._count += 1
        if len(own) > MAX_PAST_INCIDENTS_OF_A_PLACE:
            del own[next(iter(own))]
            self._count -= 1
        while self._count > MAX_PAST_INCIDENTS:
            self._count -= len(self._places.pop(next(iter(self._places))))

    def find(self, placed: PlacedDetection, rule: CorrelationRule) -> OpenIncident | None:
        """The latest incident where a new context begins."""
        return self._places.get(self._key(placed, rule), {}).get(placed.context.anchor)

    def close(self) -> None:
        """Make all of them past: their cases are those of rules that are about to change."""
        for own in self._places.values():
            for anchor, incident in own.items():
                own[anchor] = replace(incident, first=0, last=0)

    def _key(self, placed: PlacedDetection, rule: CorrelationRule) -> tuple[str, str, str]:
        return rule.id, placed.container.where.host, placed.container.where.container


class Correlator:
    """Turns placed detections into notifications."""

    def __init__(self, rules: Sequence[CorrelationRule]) -> None:
        self._rules = rules
        self.pending: dict[str, PlacedDetection] = {}
        """By incident: the detection whose notification waits for its event to be complete."""
        self._event: tuple[object, ...] = ()
        self.updated: dict[str, PlacedDetection] | None = None
        """The newest evidence of each incident since `updated_incidents` was called; None if it is never called."""
        self.past = PastIncidents()
        self.opened = 0
        self.values_evicted = 0
        """Values given up that conditions count or compare."""
        self._drops = 0
        self._last_drop: dict[str, int] = {}
        """By host: the number of its latest drop event, counted over all hosts; the host of the latest comes last."""

    def observe(self, placed: Iterable[PlacedDetection], event: tuple[object, ...]) -> list[Notification]:
        """Add detections. `event` identifies the kernel event that caused them. Returns the notifications due now."""
        due = self.flush(event) if self.pending else []
        for detection in placed:
            self._add(detection)
        self._event = event
        return due

    def flush(self, event: tuple[object, ...] = ()) -> list[Notification]:
        """The pending notifications, unless `event` (host, time, pid if known) is the one that caused them."""
        if not self.pending or (event and event == self._event[: len(event)]):
            return []
        pending, self.pending = self.pending, {}
        return [note for placed in pending.values() if (note := self._escalated(placed)) is not None]

    def updated_incidents(self, limit: int, prefix: str = "") -> list[Notification]:
        """Up to `limit` incidents that got evidence since the last call, as they are now. They are not for sinks.

        Incidents whose id starts with `prefix` come first.
        """
        notes: list[Notification] = []
        updated = self.updated or {}
        preferred = [incident_id for incident_id in updated if incident_id.startswith(prefix)] if prefix else []
        for incident_id in [*dict.fromkeys([*preferred, *islice(updated, limit)])][:limit]:
            placed = updated.pop(incident_id)
            incident = placed.context.incident
            if incident is not None and incident.id == incident_id and incident_id not in self.pending:
                notes.append(self._notification(placed, incident, incident.severity))
        return notes

    def use(self, rules: Sequence[CorrelationRule], successors: Mapping[int, Successor]) -> None:
        """Judge by other correlation rules from now on. Nothing may wait (`flush`)."""
        self._rules = rules
        self.past.close()
        if self.updated is not None:
            self.updated = {
                incident: replace(placed, rule=successors[placed.rule].index)
                for incident, placed in self.updated.items()
                if placed.rule in successors
            }

    def record_drop(self, host: str) -> None:
        """Note that Falco dropped events on a host: evidence of the host's open incidents may be missing."""
        self._drops += 1
        self._last_drop.pop(host, None)
        if len(self._last_drop) >= MAX_HOSTS:
            del self._last_drop[next(iter(self._last_drop))]
        self._last_drop[host] = self._drops

    def _add(self, placed: PlacedDetection) -> None:
        rule = self._rules[placed.rule]
        context = placed.context
        time = placed.detection.time
        if rule.counted & placed.detection.groups:
            grown, evicted = context.count_values(placed.alert, placed.detection.groups, rule)
            placed.container.timeline_bytes += grown
            self.values_evicted += evicted
        placed.container.timeline_bytes += context.add(placed.detection, rule, placed.shell, placed.alert)
        case = context.case(placed.detection, rule)
        incident = context.incident
        if incident is None and case >= 0:
            incident = context.incident = self.past.find(placed, rule)
        if incident is None or time - incident.last > rule.idle_timeout or time - incident.first > rule.max_duration:
            if case < 0:
                return
            incident = context.incident = self._opened(placed, case)
            self.past.add(placed, rule, incident)
        else:
            incident.add(time, case)
            if self.updated is not None and len(self.updated) < MAX_UPDATED_INCIDENTS:
                self.updated[incident.id] = placed
        if rule.cases[incident.case].rank > incident.rank:
            self.pending[incident.id] = placed

    def _opened(self, placed: PlacedDetection, case: int) -> OpenIncident:
        context = placed.context
        rule = self._rules[placed.rule]
        previous = context.incident.id if context.incident else ""
        before = context.incident.last if context.incident else -1
        spans = [span for span in context.spans.values() if span.first > before]
        first = min((span.first for span in spans), default=placed.detection.time)
        last = max(context.newest, placed.detection.time)
        count = sum(span.count for span in spans) or 1
        self.opened += 1
        return OpenIncident(_id(placed, rule, previous), previous, case, 0, 0, "", first, last, count, self._drops)

    def _escalated(self, placed: PlacedDetection) -> Notification | None:
        incident = placed.context.incident
        rule = self._rules[placed.rule]
        if incident is None:
            return None
        case = rule.cases[incident.case]
        came_from, incident.severity = incident.severity, case.severity
        incident.rank = case.rank
        incident.step += 1
        return self._notification(placed, incident, came_from)

    def _notification(self, placed: PlacedDetection, incident: OpenIncident, came_from: str) -> Notification:
        if self._last_drop.get(placed.container.where.host, 0) > incident.drops_before:
            incident.incomplete = True
        return notification(placed, self._rules[placed.rule], incident, came_from)


def _id(placed: PlacedDetection, rule: CorrelationRule, previous: str) -> str:
    """An id from place and day, not from the deciding alert: the same stream in any order gives the same id."""
    context, where = placed.context, placed.container.where
    day = placed.detection.time // DAY_NS
    name = f"{rule.id}|{where.host}|{where.container}|{context.anchor}|{day}|{previous}"
    return blake2b(name.encode("utf-8", "replace"), digest_size=8).hexdigest()
