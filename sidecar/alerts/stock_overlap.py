"""Stock Falco rules give way to ours on hosts where both are loaded, so that one event counts once."""

from collections.abc import Callable

from sidecar.aging_dict import Generations
from sidecar.alerts.classify import Verdict
from sidecar.model import Alert

HOSTS, TTL = 10_000, 86_400.0
"""Hosts that are known to have our rules, and for how many seconds."""


class Overlap:
    """Learns per host whether our own Falco rules see the events that stock rules see.

    They do where both reported one event: then they are all loaded and none shadows another (`rule_matching: all`), and
    what only a stock rule reports is what ours leave out on purpose.
    """

    def __init__(self, timer: Callable[[], float]) -> None:
        self._hosts: Generations[str, bool] = Generations(HOSTS, TTL, timer)
        self._ours: Alert | None = None
        self._stock: Alert | None = None

    def counting(self, verdict: Verdict, alert: Alert) -> tuple[tuple[int, int], ...]:
        """The groups that an alert counts for on its host."""
        if verdict.building_block and verdict.groups:
            self._ours = alert
            if self._stock is not None and _is_same_event(self._stock, alert):
                self._hosts[alert.host] = True
        if not verdict.stock:
            return verdict.groups
        self._stock = alert
        if self._ours is not None and _is_same_event(self._ours, alert):
            self._hosts[alert.host] = True
        if self._hosts.get(alert.host):
            return verdict.groups
        merged = dict(verdict.groups)
        for index, mask in verdict.stock:
            merged[index] = merged.get(index, 0) | mask
        return tuple(merged.items())


def _is_same_event(one: Alert, other: Alert) -> bool:
    return one.time == other.time and one.host == other.host and one.fields.pid == other.fields.pid
