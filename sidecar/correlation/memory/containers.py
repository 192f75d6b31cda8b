"""The outer level of memory: containers, and the budgets that all of them share.

Containers with web-shell evidence are kept apart from those without, so that a flood of new containers can push out
only quiet ones. When a budget is used up, the container that uses most of it gives: contexts are folded, remembered
processes, waiting detections and the middle of timelines are dropped, and counted. No step looks at all containers:
one alert must never wait for thousands of others.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice

from cachetools import TTLCache

from sidecar.correlation.memory.budgets import ALARM, Budget
from sidecar.correlation.memory.container import CONTEXTS, NOTHING, Container, Use
from sidecar.model import Alert, Report

QUIET, ARMED = 3_500, 6_000
"""Containers kept without and with contexts."""

SKEW = 150 * 1_000_000_000
"""By how much (ns) clocks of hosts may differ, and alerts be late, before what waits is taken for too old."""

SILENCE = 3600.0
"""Seconds between two reports of the same quota."""

GIVERS = 64
"""Containers that give for one alert at the most; what is still too much then is the next alert's."""


class _Level(TTLCache[tuple[str, str], Container]):
    """Containers that are forgotten `ttl` seconds after they were set, or under pressure; `gone` is told of each.

    What a burst brought together ends together: only some go at a time, since no alert must wait for thousands.
    """

    def __init__(self, room: int, ttl: float, timer: Callable[[], float], gone: Callable[[Container], None]) -> None:
        super().__init__(room, ttl, timer)
        self._gone = gone
        self._in_order: dict[tuple[str, str], float] = {}
        """When each was set, the earliest first."""
        self.evicted = 0

    def __setitem__(self, key: tuple[str, str], container: Container) -> None:
        super().__setitem__(key, container)
        self._in_order.pop(key, None)
        self._in_order[key] = self.timer()

    def expire(self, time: float | None = None) -> list[tuple[tuple[str, str], Container]]:
        """Forget some of those whose time is over."""
        now = self.timer() if time is None else time
        first = [*islice(self._in_order.values(), GIVERS)]
        if first and first[0] + self.ttl <= now:
            now = min(now, first[-1] + self.ttl)
        expired = [*super().expire(now)]
        for key, container in expired:
            self._ended(key, container)
        return expired

    def popitem(self) -> tuple[tuple[str, str], Container]:
        """Forget one whose time is over, else the longest unused: there is no room."""
        for key, container in self.expire():
            return key, container
        key, container = super().popitem()
        self._ended(key, container)
        self.evicted += 1
        return key, container

    def forget(self, key: tuple[str, str], container: Container) -> None:
        """Forget one, whether its time is over or not."""
        self.leave(key)
        self._gone(container)

    def leave(self, key: tuple[str, str]) -> None:
        """Hold one no longer, which lives on elsewhere."""
        with suppress(KeyError):  # raised when its time is over, though it is gone all the same
            del self[key]
        self._in_order.pop(key, None)

    def _ended(self, key: tuple[str, str], container: Container) -> None:
        del self._in_order[key]
        self._gone(container)


class Containers:
    """Containers by (host, id), each kept for `ttl` seconds after its last detection; `window` (ns) is the longest."""

    def __init__(self, ttl: float, timer: Callable[[], float], window: int) -> None:
        self._quiet = _Level(QUIET, ttl, timer, self._gone)
        self._armed = _Level(ARMED, ttl, timer, self._gone)
        self._waiters: OrderedDict[int, Container] = OrderedDict()
        self._window = window
        self._all: dict[tuple[str, str | None], Container] = {}
        self._ttl = ttl
        self._lasting = ttl / 16
        self._timer = timer
        self.budgets = {
            "contexts": Budget(7_000, lambda c: c.contexts.fold(len(c.contexts) // 2 + 1)),
            "processes": Budget(70_000, lambda c: c.forget_processes()),
            "waiting_bytes": Budget(6_000_000, lambda c: c.waiting.forget_half()),
            "timeline_bytes": Budget(7_500_000, lambda c: c.shorten()),
        }
        """What all containers together may hold; a service with all of it full stays within 128 MiB (bench/full.py)."""
        self._budgets = tuple(self.budgets.values())

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Container]:
        return iter([*self._all.values()])

    @property
    def evicted(self) -> int:
        """Containers that were forgotten because there was no room for them."""
        return self._quiet.evicted + self._armed.evicted

    def of(self, alert: Alert) -> Container:
        """The container of an alert, made at its first."""
        now = self._timer()
        found = self._all.get((alert.host, alert.fields.container_id))
        if found is not None and now - found.kept <= self._lasting:
            return found
        return self._of(alert.host, alert.container, now)

    def _of(self, host: str, cid: str, now: float) -> Container:
        found = self._all.get((host, cid))
        if found is not None and now - found.kept <= self._lasting:
            return found
        if found is not None and now - found.kept >= self._ttl:
            self._level_of(found).forget((host, cid), found)
            found = None
        found = found or Container(host, cid, self._ttl, self._timer)
        found.kept = now
        found.lineage.age()
        self._level_of(found)[host, cid] = self._all[host, cid] = found
        return found

    def _level_of(self, container: Container) -> _Level:
        return self._armed if container.is_armed else self._quiet

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

    def changed(self, container: Container, time: int) -> Sequence[Report]:
        """Take note of what a container holds now; where all hold too much, the largest give.

        Returns:
            Reports of quotas that are used to four fifths, each at most once an hour.
        """
        before, now = container.counted, container.use()
        if now == before:
            return ()
        is_tight = self._count(container, now)
        contexts, _, waiting, _ = now
        if contexts and not container.is_armed:
            self._arm(container)
        if waiting > before[2]:
            self._waiters.setdefault(id(container), container)
            self._sweep(container, time - self._window - SKEW)
        if not is_tight and contexts < ALARM * CONTEXTS:
            return ()
        return self._relieved(container, time)

    def _count(self, container: Container, now: Use) -> bool:
        """Count what a container holds now; says whether so much is used that it is worth a look."""
        contexts, processes, waiting, timelines = self._budgets
        before, container.counted = container.counted, now
        is_tight = False
        if now[0] != before[0]:
            is_tight = contexts.count(container, before[0], now[0])
        if now[1] != before[1]:
            is_tight |= processes.count(container, before[1], now[1])
        if now[2] != before[2]:
            is_tight |= waiting.count(container, before[2], now[2])
        if now[3] != before[3]:
            is_tight |= timelines.count(container, before[3], now[3])
        return is_tight

    def _sweep(self, container: Container, horizon: int) -> None:
        """When more than seven tenths of the room are used, two others in turn forget what waits there in vain."""
        budget = self.budgets["waiting_bytes"]
        for _ in range(2 if budget.used > budget.room * 0.7 else 0):
            _, waiter = self._waiters.popitem(last=False)
            if waiter.waiting.oldest < horizon - self._window // 4:  # worth it: that is more than one or two
                waiter.waiting.forget_before(horizon)
                if waiter is not container:
                    self._count(waiter, waiter.use())
            if waiter.waiting.weight:
                self._waiters[id(waiter)] = waiter

    def _gone(self, container: Container) -> None:
        self._count(container, NOTHING)
        self._waiters.pop(id(container), None)
        del self._all[container.where.host, container.where.container]

    def _shed(self, budget: Budget) -> None:
        for _ in range(GIVERS):
            giver = budget.largest()
            if giver is None or budget.used <= budget.room:
                return
            used = budget.used
            budget.shrink(giver)
            self._count(giver, giver.use())
            budget.shrunk += used - budget.used
            if budget.used == used:
                budget.spare(giver)
                return

    def _relieved(self, container: Container, time: int) -> list[Report]:
        """Let the largest give where all hold too much; the reports that are due of it."""
        found, now = [], self._timer()
        share = len(container.contexts) / CONTEXTS
        if share >= ALARM and now >= container.silent_until:
            container.silent_until = now + SILENCE
            found.append(_report(container, time, f"{len(container.contexts)} contexts in one container", share))
        for name, budget in self.budgets.items():
            if budget.used >= budget.room * budget.alarm and now >= budget.silent_until:
                budget.alarm, budget.silent_until = 1.0, now + SILENCE
                found.append(_report(container, time, f"{budget.used} {name} in all", budget.used / budget.room))
            if budget.used > budget.room:
                self._shed(budget)
        return found

    def _arm(self, container: Container) -> None:
        key = (container.where.host, container.where.container)
        self._quiet.leave(key)
        container.is_armed = True
        self._armed[key] = container


def _report(container: Container, time: int, what: str, share: float) -> Report:
    return Report(
        case="Correlator under pressure",
        severity="medium",
        text=f"{what}, {share:.0%} of the quota: somebody makes noise, or the node is too busy for the quotas",
        where=container.where,
        time=time,
    )
