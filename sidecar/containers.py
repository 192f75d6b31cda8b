"""The outer level of memory: containers, and the budgets that all of them share.

Containers with web-shell evidence are kept apart from those without, so that a flood of new containers can push out
only quiet ones. When a budget is used up, the container that uses most of it gives: contexts are folded, remembered
processes and waiting detections are dropped, oldest first, and counted.
"""

from collections.abc import Callable, Iterator

from cachetools import TTLCache

from sidecar.container import CONTEXTS, Container
from sidecar.model import Report

QUIET, ARMED = 10_000, 20_000
"""Containers kept without and with contexts."""

BUDGETS = {"contexts": 50_000, "processes": 300_000, "waiting": 20_000}
"""What all containers together may hold."""

ALARM = 0.8
"""The share of a quota at which it is reported."""


class Budget:
    """One thing that all containers share: `size` tells how much a container has, `shrink` halves it."""

    def __init__(self, room: int, size: Callable[[Container], int], shrink: Callable[[Container], None]) -> None:
        self.room = room
        self.used = 0
        self.shrunk = 0
        self._size = size
        self._shrink = shrink

    def spend(self, more: int, containers: Callable[[], Iterator[Container]]) -> None:
        """Count what was added; the exact count is taken, and the largest users made to give, only when it is full.

        A tenth is made free at once, so that a full budget does not cost a look at everybody each time.
        """
        self.used += more
        if self.used < self.room:
            return
        by_size = sorted(containers(), key=self._size, reverse=True)
        self.used = sum(map(self._size, by_size))
        for container in by_size:
            if self.used <= self.room * 9 // 10:
                return
            before = self._size(container)
            self._shrink(container)
            self.shrunk += before - self._size(container)
            self.used -= before - self._size(container)


class Containers:
    """Containers by (host, id), each kept for `ttl` seconds after its last detection."""

    def __init__(self, ttl: float, timer: Callable[[], float]) -> None:
        self._quiet: TTLCache[tuple[str, str], Container] = TTLCache(QUIET, ttl, timer)
        self._armed: TTLCache[tuple[str, str], Container] = TTLCache(ARMED, ttl, timer)
        self._ttl = ttl
        self._timer = timer
        self._reported: TTLCache[str, bool] = TTLCache(1000, 3600, timer)
        self.evicted = 0
        self.budgets = {
            "contexts": Budget(
                BUDGETS["contexts"], lambda c: len(c.contexts), lambda c: c.fold(len(c.contexts) // 2 + 1)
            ),
            "processes": Budget(BUDGETS["processes"], lambda c: len(c.lineage), lambda c: c.lineage.forget_half()),
            "waiting": Budget(BUDGETS["waiting"], lambda c: len(c.waiting), _drop_half),
        }

    def __len__(self) -> int:
        return len(self._quiet) + len(self._armed)

    def __iter__(self) -> Iterator[Container]:
        return iter([*self._quiet.values(), *self._armed.values()])

    def of(self, host: str, cid: str) -> Container:
        """The container of an alert, made at its first."""
        key = (host, cid)
        level = self._armed if key in self._armed else self._quiet
        found = level.get(key)
        now = self._timer()
        if found is None:
            self.evicted += len(self._quiet) >= QUIET
            found = self._quiet[key] = Container(host, cid, self._ttl, self._timer)
        elif now - found.kept > self._ttl / 16:
            found.kept = now
            level[key] = found
        return found

    def lost_events(self, host: str) -> int:
        """Mark the open incidents of a host whose Falco dropped events; returns how many."""
        marked = 0
        for container in self:
            if container.where.host == host:
                for context in [*container.contexts.values(), *container.coarse.values()]:
                    if context.incident is not None:
                        context.incident.incomplete = True
                        marked += 1
        return marked

    def grown(self, container: Container, *, contexts: int, processes: int, waiting: int) -> None:
        """Take note of what a container got more of."""
        if contexts > 0:
            self._arm(container)
            self.budgets["contexts"].spend(contexts, self.__iter__)
        if processes > 0:
            self.budgets["processes"].spend(processes, self.__iter__)
        if waiting > 0:
            self.budgets["waiting"].spend(waiting, self.__iter__)

    def pressure(self, container: Container, time: int) -> list[Report]:
        """Reports of quotas that are used to four fifths, each at most once an hour."""
        found = []
        share = len(container.contexts) / CONTEXTS
        if share >= ALARM and self._is_new(f"{container.where.host}/{container.where.container}"):
            found.append(_report(container, time, f"{len(container.contexts)} contexts in one container", share))
        for name, budget in self.budgets.items():
            if budget.used / budget.room >= ALARM and self._is_new(name):
                found.append(_report(container, time, f"{budget.used} {name} in all", budget.used / budget.room))
        return found

    def _arm(self, container: Container) -> None:
        key = (container.where.host, container.where.container)
        if key not in self._armed:
            self._quiet.pop(key, None)
            self.evicted += len(self._armed) >= ARMED
            self._armed[key] = container

    def _is_new(self, name: str) -> bool:
        new = name not in self._reported
        if new:
            self._reported[name] = True
        return new


def _drop_half(container: Container) -> None:
    del container.waiting[: len(container.waiting) // 2 + 1]


def _report(container: Container, time: int, what: str, share: float) -> Report:
    return Report(
        case="Correlator under pressure",
        severity="medium",
        text=f"{what}, {share:.0%} of the quota: somebody makes noise, or the node is too busy for the quotas",
        where=container.where,
        time=time,
    )
