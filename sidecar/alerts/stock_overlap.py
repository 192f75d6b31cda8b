"""Stock Falco rules give way to ours on hosts where both are loaded, so that one event counts once."""

from collections.abc import Callable

from sidecar.aging_dict import AgingDict
from sidecar.alerts.classify import Verdict
from sidecar.model import Alert

MAX_PAIRS = 10_000
"""Pairs of host and correlation rule for which our own Falco rules are known to be loaded."""

TTL_SECONDS = 86_400.0
"""How long after its last alert a pair is known."""


class StockOverlap:
    """Learns for each host and correlation rule whether our own Falco rules see the events that stock rules see.

    They do where both reported the same event: both are loaded and neither shadows the other (`rule_matching: all`).
    What only a stock rule reports there is left out by ours on purpose.
    """

    def __init__(self, timer: Callable[[], float]) -> None:
        self._overlapping: AgingDict[tuple[str, int], bool] = AgingDict(MAX_PAIRS, TTL_SECONDS, timer)
        self._own: tuple[Alert, Verdict] | None = None
        self._stock: tuple[Alert, Verdict] | None = None

    def effective_groups(self, verdict: Verdict, alert: Alert) -> tuple[tuple[int, int], ...]:
        """The groups that an alert counts for on its host: pairs of a correlation rule's index and a mask."""
        if verdict.is_own_detection and verdict.groups:
            self._own = alert, verdict
            self._learn()
        if not verdict.fallback_groups:
            return verdict.groups
        self._stock = alert, verdict
        self._learn()
        merged = dict(verdict.groups)
        for index, mask in verdict.fallback_groups:
            if not self._overlapping.get((alert.host, index)):
                merged[index] = merged.get(index, 0) | mask
        return tuple(merged.items())

    def _learn(self) -> None:
        """Remember the correlation rules for which both kinds of Falco rules reported the latest event."""
        if self._own is None or self._stock is None:
            return
        alert, verdict = self._own
        stock_alert, stock_verdict = self._stock
        if _is_same_event(alert, stock_alert):
            for index in dict(verdict.groups).keys() & dict(stock_verdict.fallback_groups).keys():
                self._overlapping[alert.host, index] = True


def _is_same_event(one: Alert, other: Alert) -> bool:
    return one.time == other.time and one.host == other.host and one.fields.pid == other.fields.pid
