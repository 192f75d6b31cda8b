"""Stock Falco rules give way to ours on hosts where both are loaded, so that one event counts once."""

from collections.abc import Callable

from sidecar.aging_dict import AgingDict
from sidecar.alerts.classify import Verdict
from sidecar.model import Alert

MAX_HOSTS = 10_000
"""Hosts that are known to have our rules."""

TTL_SECONDS = 86_400.0
"""How long after its last alert a host is known to have them."""


class StockOverlap:
    """Learns for each host whether our own Falco rules see the events that stock rules see.

    They do where both reported the same event: both are loaded and neither shadows the other (`rule_matching: all`).
    What only a stock rule reports there is left out by ours on purpose.
    """

    def __init__(self, timer: Callable[[], float]) -> None:
        self._hosts_with_ours: AgingDict[str, bool] = AgingDict(MAX_HOSTS, TTL_SECONDS, timer)
        self._last_own: Alert | None = None
        self._last_stock: Alert | None = None

    def effective_groups(self, verdict: Verdict, alert: Alert) -> tuple[tuple[int, int], ...]:
        """The groups that an alert counts for on its host: pairs of correlation rule index and mask of groups."""
        if verdict.is_own_detection and verdict.groups:
            self._last_own = alert
            if self._last_stock is not None and _is_same_event(self._last_stock, alert):
                self._hosts_with_ours[alert.host] = True
        if not verdict.fallback_groups:
            return verdict.groups
        self._last_stock = alert
        if self._last_own is not None and _is_same_event(self._last_own, alert):
            self._hosts_with_ours[alert.host] = True
        if self._hosts_with_ours.get(alert.host):
            return verdict.groups
        merged = dict(verdict.groups)
        for index, mask in verdict.fallback_groups:
            merged[index] = merged.get(index, 0) | mask
        return tuple(merged.items())


def _is_same_event(one: Alert, other: Alert) -> bool:
    return one.time == other.time and one.host == other.host and one.fields.pid == other.fields.pid
