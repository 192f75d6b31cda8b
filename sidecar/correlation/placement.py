"""Where a detection belongs: the rule that decides between an attack and an administrator.

A container is too wide a place (`kubectl exec` would mix with the application's mail) and a session id alone is wrong
both ways (setsid splits it, cron siblings share it). So contexts hang on a **service root**, the outermost service
process above the web-shell detection, and a detection joins

1. by *lineage*: the root stands among its process's remembered ancestors. What the service does itself is not meant: an
   SDK in php-fpm reading its own token is no theft. What was started below it is;
2. by *session*: its process is an orphan (its parent is init, the container's first process, or unknown) whose session
   is one of the context's;
3. as an *orphan* of an unknown session, inside a container only, if it started after the context was born. Never a
   process that entered from outside: its ancestors lead to the container runtime, not to the first process.

Detections that belong nowhere wait in their container: the web shell that explains them may arrive later.
"""

from collections.abc import Iterable, Sequence
from itertools import product

from msgspec import Struct

from sidecar.alerts.traits import TRAITS
from sidecar.correlation.anchors import anchored, coarse
from sidecar.correlation.membership import Joined, join
from sidecar.correlation.memory.container import Container
from sidecar.correlation.memory.containers import Containers
from sidecar.correlation.memory.context import SESSIONS, Context
from sidecar.correlation.memory.lineage import DEEPEST, Process
from sidecar.model import LONGEST, Alert, Detection, Join, Report
from sidecar.rules.rule import CorrelationRule


class Placed(Struct, frozen=True):
    """A detection and the context that it joined."""

    rule: int
    container: Container
    context: Context
    detection: Detection
    alert: Alert


class Placement:
    """Puts alerts into the contexts of the correlation rules that care about them."""

    def __init__(self, rules: Sequence[CorrelationRule], containers: Containers) -> None:
        self._rules = rules
        self._all = tuple((index, 0) for index in range(len(rules)))
        self._traits = tuple(tuple((TRAITS[trait], bits) for trait, bits in rule.trait_bits) for rule in rules)
        self._containers = containers

    def place(self, alert: Alert, groups: Sequence[tuple[int, int]]) -> tuple[Sequence[Placed], Sequence[Report]]:
        """Every detection that found its context now: this alert's, and waiting ones that it explains.

        `groups` pairs correlation rules (by index) with the mask of groups; empty for alerts that only teach lineage.
        The reports say that a quota is nearly used up.
        """
        container = self._containers.of(alert)
        learned = container.learn(alert.fields, alert.time)
        if learned.replaced:
            self._retire(container, learned.replaced)
        placed: list[Placed] = []
        path, explains = learned.path, learned.news
        for index, mask in groups or self._all:
            for shows, bits in self._traits[index]:
                if shows(alert.fields, container.first_tty):
                    mask |= bits  # noqa: PLW2901 - what the fields say counts as if a Falco rule had said it
            if mask & self._rules[index].anchoring and not (learned.fresh or path[0].anchors_shell):
                explains = True
            if (found := self._place_one(container, index, mask, alert, path)) is not None:
                placed.append(found)
        if container.waiting.weight and (explains or container.contexts.changed):
            placed += self._reconsider(container)
        container.contexts.changed = False
        return placed, self._containers.changed(container, alert.time)

    def _place_one(
        self, container: Container, index: int, mask: int, alert: Alert, path: list[Process]
    ) -> Placed | None:
        """Place one alert for one rule."""
        rule = self._rules[index]
        joined: Joined | None
        if rule.wide and not container.is_host:
            joined = coarse(container, index, alert), "container", DEEPEST
        elif mask & rule.anchoring:
            context, outer = anchored(container, index, rule, path, alert)
            joined = context, "lineage", outer
        else:
            joined = join(container, index, rule, path, alert)
        if joined is None:
            if mask:
                container.waiting.add(index, mask, alert, alert.time - rule.window)
            return None
        context, how, at = joined
        session = alert.fields.sid or 0
        if session > 0 and session not in context.sessions and len(context.sessions) < SESSIONS:
            context.sessions.add(session)
            container.contexts.changed = True
        if not mask:
            return None
        named = tuple([(process.pid, process.name) for process in path[: at + 1]])
        return Placed(index, container, context, _detection(alert, mask, how, named), alert)

    def _reconsider(self, container: Container) -> list[Placed]:
        """Try the waiting detections again, until none of them finds a place any more."""
        placed: list[Placed] = []
        container.contexts.changed = True
        while container.contexts.changed:
            container.contexts.changed = False
            for held in container.waiting.emptied():
                path = container.lineage.path(held.pid) or self._learned_again(container, held.alert)
                if (found := self._place_one(container, held.rule, held.groups, held.alert, path)) is not None:
                    placed.append(found)
        return placed

    def _learned_again(self, container: Container, alert: Alert) -> list[Process]:
        """The path of a process that was forgotten while its detection waited: the alert still knows its ancestors."""
        learned = container.lineage.learn(alert.fields, alert.time, container.is_init)
        self._retire(container, learned.replaced)
        return learned.path

    def _retire(self, container: Container, pids: Iterable[int]) -> None:
        """Anchors' pids belong to other processes now: their contexts stay, but nothing descends from them any more."""
        for key in product(range(len(self._rules)), pids):
            context = container.contexts.pop(key, None)
            if context is not None:
                container.contexts[key[0], -key[1]] = context


def _detection(alert: Alert, mask: int, how: Join, path: tuple[tuple[int, str], ...]) -> Detection:
    fields = alert.fields
    name = fields.name or ""
    cmdline = fields.cmdline or name
    detail = f"{fields.remote_ip}:{fields.remote_port}" if fields.remote_ip else fields.file or ""
    return Detection(
        alert.time, alert.rule, mask, how, path or ((fields.pid or 0, name),), cmdline[:LONGEST], detail[:LONGEST]
    )
