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

from collections.abc import Sequence
from typing import NamedTuple

from sidecar.context import COARSE, DETECTIONS, SESSIONS, Container, Containers, Context, Waiting
from sidecar.lineage import INITS, Process, ancestry, is_runtime
from sidecar.model import Alert, Detection, Join
from sidecar.rules import CorrelationRule
from sidecar.traits import TRAITS

SUPERVISORS = frozenset(
    (
        "supervisord",
        "s6-svscan",
        "s6-supervise",
        "runsvdir",
        "runsv",
        "systemd",
        "systemd-executo",
        "(sd-executor)",
    ),
)
"""Processes whose child is a service of its own, not part of theirs."""

STARTERS = frozenset(("systemd", "cron", "crond", "supercronic", "anacron", "atd", "fcron"))
"""First processes that start work by themselves all day long, in sessions of its own."""

_VISIBLE = 7
_EXECS = frozenset(("execve", "execveat"))


class Placed(NamedTuple):
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
        self._containers = containers

    def place(self, alert: Alert, groups: Sequence[tuple[int, int]]) -> list[Placed]:
        """Every detection that found its context now: this alert's, and waiting ones that it explains.

        `groups` pairs correlation rules (by index) with the mask of groups; empty for alerts that only teach lineage.
        """
        fields = alert.fields
        container = self._containers.of(alert.host, alert.container)
        container.note_place(fields)
        chain = ancestry(fields)
        container.note_first(fields, chain)
        explains, replaced = container.lineage.learn(chain, alert.time, container.is_init)
        for pid in replaced:
            self._retire(container, pid)
        placed = []
        for index, mask in groups or [(index, 0) for index in range(len(self._rules))]:
            found, news = self._place_one(container, index, mask | self._traits(container, index, alert), alert)
            placed += found
            explains |= news
        return placed + (self._reconsider(container) if explains and container.waiting else [])

    def _place_one(self, container: Container, index: int, mask: int, alert: Alert) -> tuple[list[Placed], bool]:
        """Place one alert for one rule; says also whether it gave news that may explain waiting detections."""
        rule = self._rules[index]
        path = _path(container, alert)
        news = bool(mask & rule.anchoring)
        joined: tuple[Context, Join] | None
        if rule.wide and not container.is_host:
            joined = _coarse(container, index, alert), "container"
        elif news:
            joined = _anchored(container, index, rule, path, alert), "lineage"
        else:
            joined = _join(container, index, rule, path, alert)
        if joined is None:
            self._wait(container, index, mask, alert)
            return [], False
        context, join = joined
        session = alert.fields.sid or 0
        if session > 0 and session not in context.sessions and len(context.sessions) < SESSIONS:
            context.sessions.add(session)
            news = True
        if not mask:
            return [], news
        return [Placed(index, container, context, _detection(alert, mask, join, path, context), alert)], news

    def _traits(self, container: Container, index: int, alert: Alert) -> int:
        mask = 0
        for trait, bits in self._rules[index].trait_bits:
            if TRAITS[trait](alert.fields, container.first_tty):
                mask |= bits
        return mask

    def _wait(self, container: Container, index: int, mask: int, alert: Alert) -> None:
        if not mask:
            return
        waiting = container.waiting
        if len(waiting) >= DETECTIONS:
            horizon = alert.time - self._rules[index].window
            container.waiting = waiting = [w for w in waiting if w.alert.time >= horizon]
        same = [i for i, w in enumerate(waiting) if w.rule == index and w.groups == mask]
        if len(same) >= DETECTIONS:
            del waiting[same[0]]
        waiting.append(Waiting(index, mask, alert))

    def _reconsider(self, container: Container) -> list[Placed]:
        """Try the waiting detections again, until none of them finds a place any more."""
        placed: list[Placed] = []
        news = True
        while news:
            news, waiting, container.waiting = False, container.waiting, []
            for held in waiting:
                found, more = self._place_one(container, held.rule, held.groups, held.alert)
                placed += found
                news |= more
        return placed

    def _retire(self, container: Container, pid: int) -> None:
        """The anchor's pid belongs to another process now: its context stays, but nothing descends from it any more."""
        for index in range(len(self._rules)):
            context = container.contexts.pop((index, pid), None)
            if context is not None:
                container.contexts[index, -pid] = context


def _path(container: Container, alert: Alert) -> list[Process]:
    """The alert's process and its remembered ancestors, nearest first; [] if the alert names no process."""
    lineage, pid = container.lineage, alert.fields.pid or 0
    process = lineage[pid]
    if process is None:
        return []
    path = [process]
    for above in lineage.above(pid):
        ancestor = lineage[above]
        if ancestor is None:
            break
        path.append(ancestor)
    return path


def _coarse(container: Container, index: int, alert: Alert) -> Context:
    context = container.coarse.get(index)
    if context is None:
        context = container.coarse[index] = _new(container, COARSE, "", alert, is_service=False)
    return context


def _new(container: Container, anchor: int, name: str, alert: Alert, *, is_service: bool) -> Context:
    born = alert.fields.start or alert.time
    return Context(anchor, name, is_service, born, container.epoch, {}, [], set(), alive=alert.time)


def _anchored(container: Container, index: int, rule: CorrelationRule, path: list[Process], alert: Alert) -> Context:
    """The context of a detection that makes one: that of the outermost known anchor above it, else a new one."""
    if not path:
        return _coarse(container, index, alert)
    container.note_top(path)
    at = _service_root(container, rule, path)
    known = [i for i, process in enumerate(path) if (index, process.pid) in container.contexts]
    outer = max([*known, at])
    root = path[outer]
    context = container.contexts.get((index, root.pid))
    if context is None:
        context = _new(container, root.pid, root.name, alert, is_service=outer > 0)
        container.contexts[index, root.pid] = context
    else:
        container.contexts[index, root.pid] = context  # its TTL begins anew
        context.born = min(context.born, alert.fields.start or alert.time)
    for i in known:
        if i != outer:
            context.absorb(container.contexts.pop((index, path[i].pid)))
    path[0].anchors_shell = True
    for process in path[1:outer]:
        process.above_shell = True
    return context


def _service_root(container: Container, rule: CorrelationRule, path: list[Process]) -> int:
    """Index in `path` of the service root: the outermost service process above the detection's own.

    Without one it is the parent and what bears the same name above it; for a parent that starts anything (init, a
    container runtime) it is the process itself.
    """
    services = [index for index in range(1, len(path)) if rule.is_service(path[index].name)]
    if services:
        return services[-1]
    if len(path) < 2 or _starts_anything(container, path[1]):
        return 0
    index = 1
    while index + 1 < len(path) and path[index + 1].name == path[1].name:
        index += 1
    return index


def _starts_anything(container: Container, process: Process) -> bool:
    name = process.name
    return (
        not name
        or is_runtime(name)
        or name in INITS
        or name in SUPERVISORS
        or name in STARTERS
        or (container.is_host and container.is_init(process.pid))
    )


def _join(
    container: Container, index: int, rule: CorrelationRule, path: list[Process], alert: Alert
) -> tuple[Context, Join] | None:
    """The context that a detection belongs to and how, or None."""
    if path and container.contexts:
        for at in range(len(path) - 1, -1, -1):
            context = container.contexts.get((index, path[at].pid))
            if context is not None:
                return None if _is_service_itself(rule, path[: at + 1], context, alert) else (context, "lineage")
        orphaned = _orphaned(container, index, path, alert)
        if orphaned is not None:
            return orphaned
    coarse = container.coarse.get(index)
    return (coarse, "container") if coarse is not None and not _is_outside(container, path) else None


def _is_service_itself(rule: CorrelationRule, path: list[Process], context: Context, alert: Alert) -> bool:
    """Whether the detection is what the service does of its own: `path` leads from its process up to the anchor."""
    if len(path) == 1:
        return context.is_service
    if alert.fields.evt_type in _EXECS or any(process.anchors_shell for process in path[:-1]):
        return False
    return path[0].above_shell or all(rule.is_service(process.name) for process in path)


def _orphaned(container: Container, index: int, path: list[Process], alert: Alert) -> tuple[Context, Join] | None:
    """The context of an orphan, or of a process below one."""
    session = max(alert.fields.sid or 0, 0)
    at = _orphan(container, path, alert)
    if at is None or _is_habit(container, alert, path[at]):
        container.estrange(session)
        return None
    contexts = [c for c in container.of_rule(index) if _may_be_below(container, path, at, c)]
    for context in contexts:
        if session and session in context.sessions:
            return context, "session"
    if container.is_host or container.first_name in STARTERS or session in container.strangers or not contexts:
        return None
    return max(contexts, key=lambda c: c.born), "orphan"


def _orphan(container: Container, path: list[Process], alert: Alert) -> int | None:
    """Index in `path` of the process that was orphaned, None if there is none.

    It is the one below init. That it has children of its own does not matter: `_may_be_below` asks when it started.
    """
    for at, process in enumerate(path):
        if process.pid == container.first or (container.is_host and container.is_init(process.pid)):
            return at - 1 if at else None
    entered = any(is_runtime(process.name) for process in path[1:])
    parent_elsewhere = len(path) == 1 and not container.is_host and alert.fields.pvpid not in (None, 0, 1)
    return None if entered or parent_elsewhere or len(path) >= _VISIBLE else len(path) - 1


def _may_be_below(container: Container, path: list[Process], at: int, context: Context) -> bool:
    """Whether an orphan can descend from a context's shell: it started later, and the anchor is not below it."""
    orphan = path[at]
    if context.epoch and container.epoch and context.epoch != container.epoch:
        return False
    if orphan.start:
        if orphan.start < context.born:
            return False
    elif at > 0 and not container.is_host:
        return False
    return orphan.pid != context.anchor and orphan.pid not in container.lineage.above(context.anchor)


def _is_habit(container: Container, alert: Alert, orphan: Process) -> bool:
    """Whether the first process had the same thing done before: a health check in the entry script, not an orphan."""
    return any(
        held.alert.rule == alert.rule
        and held.alert.fields.cmdline == alert.fields.cmdline
        and held.alert.time < (orphan.start or alert.time)
        and held.alert.fields.pid != alert.fields.pid
        for held in container.waiting
    )


def _is_outside(container: Container, path: list[Process]) -> bool:
    inside = any(process.pid == container.first for process in path)
    return not inside and any(is_runtime(process.name) for process in path[1:])


def _detection(alert: Alert, mask: int, join: Join, path: list[Process], context: Context) -> Detection:
    upto = next((i for i, process in enumerate(path) if process.pid == context.anchor), len(path) - 1)
    fields = alert.fields
    detail = f"{fields.remote_ip}:{fields.remote_port}" if fields.remote_ip else fields.file or ""
    return Detection(
        alert.time,
        alert.rule,
        mask,
        join,
        tuple((process.pid, process.name) for process in path[: upto + 1]),
        (fields.cmdline or fields.name or "")[:512],
        detail[:512],
    )
