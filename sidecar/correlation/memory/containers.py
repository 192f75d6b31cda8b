"""The outer level of memory: containers, and the budgets that all of them share.

Containers that have had web-shell evidence are kept apart from the others, so that a flood of new containers can evict
only quiet ones. When a budget is used up, the container that uses most of it gives: contexts are folded; remembered
processes, pending detections and the middle of timelines are dropped, and counted. No step looks at all containers:
one alert must never wait for thousands of others.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice

from cachetools import TTLCache

from sidecar.correlation.memory.container import MAX_CONTEXTS, NOTHING, Container, Usage
from sidecar.model import Alert, Report

MAX_QUIET_CONTAINERS = 3_500
"""Containers kept that never had a context."""

MAX_CONTAINERS_WITH_CONTEXTS = 6_000
"""Containers kept that have or had contexts."""

MAX_SKEW = 150 * 1_000_000_000
"""Nanoseconds by which hosts' clocks may differ and alerts be late before pending detections are taken for too old."""

REPORT_INTERVAL_SECONDS = 3600.0
"""Between two reports of the same quota."""

MAX_GIVERS = 64
"""Containers that give for one alert; whatever is still too much is left to the next alert."""

SWEEP_SHARE = 0.7
"""The share of the budget for pending detections above which expired ones are swept."""

SWEPT_PER_ALERT = 2
"""Containers that are swept for one alert that has to wait itself: one more than it adds."""

ALARM_SHARE = 0.8
"""The share of a quota at which its use is reported."""

WORTHWHILE_SHARE = 4
"""A sweep rewrites all lists of a container: only if something expired by a quarter of the window is it worth it."""


class Budget:
    """One resource that all containers share; `shrink` about halves what one container holds of it."""

    def __init__(self, capacity: int, shrink: Callable[[Container], None]) -> None:
        self.capacity = capacity
        self.used = 0
        self.evicted = 0
        """How much was given up in all."""
        self.alarm_share = ALARM_SHARE
        """The share at which the use is reported: first when the budget is nearly used up, after that when it is."""
        self.next_report_at = 0.0
        self.shrink = shrink
        self._by_bit_length: list[dict[int, Container]] = [{} for _ in range(capacity.bit_length() + 1)]

    def update(self, container: Container, before: int, after: int) -> bool:
        """Note that a container now holds `after` instead of `before`. Returns whether the alarm share is exceeded."""
        used = self.used = self.used + after - before
        length_before, length = before.bit_length(), after.bit_length()
        if length_before != length:
            self._by_bit_length[length_before].pop(id(container), None)
            if after:
                self._by_bit_length[length][id(container)] = container
        return used > self.capacity * self.alarm_share

    def largest(self) -> Container | None:
        """A container that holds at least half as much as the one that holds most; None if none holds anything."""
        for containers in reversed(self._by_bit_length):
            if containers:
                return next(iter(containers.values()))
        return None

    def defer(self, container: Container) -> None:
        """Put a container that has nothing left to give behind all others of its size."""
        for containers in self._by_bit_length:
            if containers.pop(id(container), None):
                containers[id(container)] = container


class _Level(TTLCache[tuple[str, str], Container]):
    """Containers that expire `ttl` seconds after they were set, or are evicted; `on_removal` is called for each.

    Containers that a burst brought together expire together. Only a few are removed at a time, since no alert must wait
    for thousands.
    """

    def __init__(
        self, capacity: int, ttl: float, timer: Callable[[], float], on_removal: Callable[[Container], None]
    ) -> None:
        super().__init__(capacity, ttl, timer)
        self._on_removal = on_removal
        self._set_at: dict[tuple[str, str], float] = {}
        """When each was set, the earliest first."""
        self.evicted = 0

    def __setitem__(self, key: tuple[str, str], container: Container) -> None:
        super().__setitem__(key, container)
        self._set_at.pop(key, None)
        self._set_at[key] = self.timer()

    def emptied(self, ttl: float) -> "_Level":
        """A level like this one, without its containers, with another time to live."""
        level = _Level(int(self.maxsize), ttl, self.timer, self._on_removal)
        level.evicted = self.evicted
        return level

    def expire(self, time: float | None = None) -> list[tuple[tuple[str, str], Container]]:
        """Remove some of the expired ones."""
        now = self.timer() if time is None else time
        earliest = [*islice(self._set_at.values(), MAX_GIVERS)]
        if earliest and earliest[0] + self.ttl <= now:
            now = min(now, earliest[-1] + self.ttl)
        expired = [*super().expire(now)]
        for key, container in expired:
            self._removed(key, container)
        return expired

    def popitem(self) -> tuple[tuple[str, str], Container]:
        """Make room: remove an expired one, else evict the least recently used one."""
        for key, container in self.expire():
            return key, container
        key, container = super().popitem()
        self._removed(key, container)
        self.evicted += 1
        return key, container

    def remove(self, key: tuple[str, str], container: Container) -> None:
        """Remove one, whether it has expired or not."""
        self.release(key)
        self._on_removal(container)

    def release(self, key: tuple[str, str]) -> None:
        """Hand over one that lives on in another level."""
        with suppress(KeyError):  # raised if it has expired, although it is removed all the same
            del self[key]
        self._set_at.pop(key, None)

    def _removed(self, key: tuple[str, str], container: Container) -> None:
        del self._set_at[key]
        self._on_removal(container)


class Containers:
    """Containers by (host, id), each kept for `ttl` seconds after its last detection.

    `window` (ns) is the longest of the correlation rules.
    """

    def __init__(self, ttl: float, timer: Callable[[], float], window: int) -> None:
        self._quiet = _Level(MAX_QUIET_CONTAINERS, ttl, timer, self._removed)
        self._with_contexts = _Level(MAX_CONTAINERS_WITH_CONTEXTS, ttl, timer, self._removed)
        self._to_sweep: OrderedDict[int, Container] = OrderedDict()
        """Containers with pending detections; the one that was swept longest ago comes first."""
        self._window = window
        self._all: dict[tuple[str, str | None], Container] = {}
        self._ttl = ttl
        self._touch_interval = ttl / 16
        self._timer = timer
        self.budgets = {
            "contexts": Budget(7_000, lambda container: container.contexts.fold(len(container.contexts) // 2 + 1)),
            "processes": Budget(70_000, lambda container: container.evict_processes()),
            "pending_bytes": Budget(6_000_000, lambda container: container.pending.drop_older_half()),
            "timeline_bytes": Budget(7_500_000, lambda container: container.shorten_timelines()),
        }
        """What all containers together may hold; a service with all of it full stays within 128 MiB (bench/full.py)."""
        self._budgets = tuple(self.budgets.values())

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Container]:
        return iter([*self._all.values()])

    @property
    def evicted(self) -> int:
        """Containers that were evicted because there was no room for them."""
        return self._quiet.evicted + self._with_contexts.evicted

    def get_or_create(self, alert: Alert) -> Container:
        """The container of an alert."""
        now = self._timer()
        container = self._all.get((alert.host, alert.fields.container_id))
        if container is not None and now - container.touched_at <= self._touch_interval:
            return container
        return self._touched(alert.host, alert.container, now)

    def keep_for(self, ttl: float, window: int) -> None:
        """Change how long containers are kept, and the longest window; each is kept as if it was used just now."""
        self._window = window
        if ttl == self._ttl:
            return
        self._ttl, self._touch_interval = ttl, ttl / 16
        self._quiet = self._quiet.emptied(ttl)
        self._with_contexts = self._with_contexts.emptied(ttl)
        for container in self:
            container.lineage.keep_for(ttl)
            self._level_of(container)[container.where.host, container.where.container] = container

    def recount(self, container: Container) -> None:
        """Account for what a container holds after a change of rules."""
        self._update_budgets(container, container.usage())

    def _touched(self, host: str, cid: str, now: float) -> Container:
        """The container, created if it is unknown or expired, with its time to live renewed."""
        container = self._all.get((host, cid))
        if container is not None and now - container.touched_at <= self._touch_interval:
            return container
        if container is not None and now - container.touched_at >= self._ttl:
            self._level_of(container).remove((host, cid), container)
            container = None
        container = container or Container(host, cid, self._ttl, self._timer)
        container.touched_at = now
        container.lineage.expire()
        self._level_of(container)[host, cid] = container
        self._all[host, cid] = container
        return container

    def _level_of(self, container: Container) -> _Level:
        return self._with_contexts if container.has_had_contexts else self._quiet

    def account(self, container: Container, time: int) -> Sequence[Report]:
        """Note what a container holds after an alert at `time` (ns). Where all hold too much, the largest give.

        Returns:
            Reports of quotas that are used to four fifths, each at most once an hour.
        """
        before = container.accounted
        now = container.usage()
        if now == before:
            return ()
        is_tight = self._update_budgets(container, now)
        contexts, _, pending, _ = now
        if contexts and not container.has_had_contexts:
            self._keep_apart(container)
        if pending > before[2]:
            self._to_sweep.setdefault(id(container), container)
            self._sweep(container, time - self._window - MAX_SKEW)
        if not is_tight and contexts < ALARM_SHARE * MAX_CONTEXTS:
            return ()
        return self._relieve(container, time)

    def _update_budgets(self, container: Container, now: Usage) -> bool:
        """Account for what a container holds now. Returns whether any budget exceeds its alarm share."""
        contexts, processes, pending, timelines = self._budgets
        contexts_before, processes_before, pending_before, timelines_before = container.accounted
        contexts_now, processes_now, pending_now, timelines_now = container.accounted = now
        is_tight = False
        if contexts_now != contexts_before:
            is_tight = contexts.update(container, contexts_before, contexts_now)
        if processes_now != processes_before:
            is_tight |= processes.update(container, processes_before, processes_now)
        if pending_now != pending_before:
            is_tight |= pending.update(container, pending_before, pending_now)
        if timelines_now != timelines_before:
            is_tight |= timelines.update(container, timelines_before, timelines_now)
        return is_tight

    def _sweep(self, container: Container, horizon: int) -> None:
        """When memory for pending detections runs short, drop those of the next containers that happened long ago."""
        budget = self.budgets["pending_bytes"]
        if budget.used <= budget.capacity * SWEEP_SHARE:
            return
        for _ in range(SWEPT_PER_ALERT):
            _, swept = self._to_sweep.popitem(last=False)
            if swept.pending.oldest < horizon - self._window // WORTHWHILE_SHARE:
                swept.pending.drop_before(horizon)
                if swept is not container:
                    self._update_budgets(swept, swept.usage())
            if swept.pending.size:
                self._to_sweep[id(swept)] = swept

    def _removed(self, container: Container) -> None:
        self._update_budgets(container, NOTHING)
        self._to_sweep.pop(id(container), None)
        del self._all[container.where.host, container.where.container]

    def _shrink(self, budget: Budget) -> None:
        for _ in range(MAX_GIVERS):
            giver = budget.largest()
            if giver is None or budget.used <= budget.capacity:
                return
            used = budget.used
            budget.shrink(giver)
            self._update_budgets(giver, giver.usage())
            budget.evicted += used - budget.used
            if budget.used == used:
                budget.defer(giver)
                return

    def _relieve(self, container: Container, time: int) -> list[Report]:
        """Let the largest containers give where a budget is exceeded. Returns the reports that are due."""
        reports: list[Report] = []
        now = self._timer()
        share = len(container.contexts) / MAX_CONTEXTS
        if share >= ALARM_SHARE and now >= container.next_report_at:
            container.next_report_at = now + REPORT_INTERVAL_SECONDS
            reports.append(_report(container, time, f"{len(container.contexts)} contexts in one container", share))
        for name, budget in self.budgets.items():
            if budget.used >= budget.capacity * budget.alarm_share and now >= budget.next_report_at:
                budget.alarm_share = 1.0
                budget.next_report_at = now + REPORT_INTERVAL_SECONDS
                reports.append(_report(container, time, f"{budget.used} {name} in all", budget.used / budget.capacity))
            if budget.used > budget.capacity:
                self._shrink(budget)
        return reports

    def _keep_apart(self, container: Container) -> None:
        key = (container.where.host, container.where.container)
        self._quiet.release(key)
        container.has_had_contexts = True
        self._with_contexts[key] = container


def _report(container: Container, time: int, usage: str, share: float) -> Report:
    return Report(
        case="Correlator under pressure",
        severity="medium",
        text=f"{usage}, {share:.0%} of the quota: either something is flooding alerts or the node needs larger quotas",
        where=container.where,
        time=time,
    )
