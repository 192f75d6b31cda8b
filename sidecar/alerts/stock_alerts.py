"""Stock Falco rules give way to ours, event by event, so that one event counts once for a group.

With `rule_matching: all` Falco sends one alert for each rule that an event matches, one directly after the other and in
the order in which the rules were loaded: the stock alert may come before ours or after it. So a stock alert waits until
its event is complete, no longer, and then counts unless ours decided about one of its groups.
"""

from collections.abc import Sequence

from sidecar.alerts.classify import Verdict
from sidecar.model import Alert

MAX_HELD = 16
"""Stock alerts that wait for one event: more rules of others than a correlation rule names are not about one event."""

Event = tuple[object, ...]
"""Identifies a kernel event: host, time and pid. Its beginning is enough where the pid was not decoded."""

Groups = Sequence[tuple[int, int]]
"""Pairs of a correlation rule's index and a mask of its groups."""


class StockAlerts:
    """The stock alerts of the latest event, and the groups that ours decided for it."""

    def __init__(self) -> None:
        self.held: list[tuple[Alert, Verdict]] = []
        """Alerts that wait for their event to be complete."""
        self.event: Event = ()
        """The event that they and the decided groups belong to."""
        self._decided: list[tuple[int, int]] = []

    def decide(self, event: Event, groups: Groups) -> None:
        """Note groups that one of our Falco rules reported for an event, or was asked about and declined."""
        if event != self.event:
            self._begin(event)
        self._decided += groups

    def hold(self, event: Event, alert: Alert, verdict: Verdict) -> None:
        """Let an alert wait until its event is complete."""
        if event != self.event:
            self._begin(event)
        self.held.append((alert, verdict))

    def release_unless(self, event: Event) -> list[tuple[Alert, Groups]]:
        """The alerts that waited, each with the groups that it counts for, unless `event`, if any, is theirs."""
        if event and event == self.event[: len(event)] and len(self.held) < MAX_HELD:
            return []
        held, self.held = self.held, []
        return [(alert, self._open_groups(verdict)) for alert, verdict in held]

    def _begin(self, event: Event) -> None:
        self.event = event
        self._decided = []

    def _open_groups(self, verdict: Verdict) -> Groups:
        shown = [(index, 0) for index, _ in verdict.fallback_groups]
        groups = dict((*shown, *verdict.teaches, *verdict.groups))
        for index, mask in verdict.fallback_groups:
            if not any(each == index and mask & decided for each, decided in self._decided):
                groups[index] = groups.get(index, 0) | mask
        return tuple(groups.items())
