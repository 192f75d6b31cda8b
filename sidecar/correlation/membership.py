"""Who belongs to a context: by lineage, by session, or as an orphan. `placement` tells the rule in words."""

from sidecar.correlation.anchors import STARTERS
from sidecar.correlation.memory.container import Container
from sidecar.correlation.memory.context import Context
from sidecar.correlation.memory.lineage import DEEPEST, VISIBLE, Process, is_runtime
from sidecar.correlation.memory.pending import deed
from sidecar.model import Alert, Join
from sidecar.rules.rule import CorrelationRule

_EXECS = frozenset(("execve", "execveat"))

Joined = tuple[Context, Join, int]
"""The context that a detection belongs to, how, and how far up its path leads there: to the anchor, or all of it."""


def join(container: Container, index: int, rule: CorrelationRule, path: list[Process], alert: Alert) -> Joined | None:
    """The context that a detection belongs to, or None."""
    if path and (container.contexts or container.coarse):
        for at in range(len(path) - 1, -1, -1):
            context = container.context(index, path[at]) if path[at].anchors else None
            if context is not None:
                return None if _is_service_itself(rule, path, at, context, alert) else (context, "lineage", at)
        orphaned = _orphaned(container, index, path, alert)
        if orphaned is not None:
            return orphaned
    coarse = container.coarse.get(index)
    if coarse is None or container.is_host or _is_outside(container, path):
        return None
    return coarse, "container", DEEPEST


def _is_service_itself(rule: CorrelationRule, path: list[Process], at: int, context: Context, alert: Alert) -> bool:
    """Whether the detection is what the service does of its own; `at` is the anchor's place in its path."""
    if not at:
        return context.is_service
    child = path[at - 1]
    if child.linked < context.born and _is_of_the_entry_script(rule, child, path[at]):
        return True
    if alert.fields.evt_type in _EXECS:
        return False
    for process in path[:at]:
        if process.anchors_shell:
            return False
    return path[0].above_shell or all(rule.is_service(process.name) for process in path[: at + 1])


def _is_of_the_entry_script(rule: CorrelationRule, child: Process, anchor: Process) -> bool:
    """Whether the anchor, which is the service now, was not yet when it started the child: `wait; exec php-fpm`."""
    return bool(child.below) and rule.is_service(anchor.name) and not rule.is_service(child.below)


def _orphaned(container: Container, index: int, path: list[Process], alert: Alert) -> Joined | None:
    """The context of an orphan, or of a process below one."""
    session = max(alert.fields.sid or 0, 0)
    at = _orphan(container, path, alert)
    if at is None or _is_habit(container, alert, path[at]):
        container.estrange(session)
        return None
    older = [context for context in container.of_rule(index) if _is_younger(container, path, at, context)]
    older.sort(key=lambda context: context.born, reverse=True)
    for context in older:
        if session and session in context.sessions and not _is_above(container, path[at], context):
            return context, "session", DEEPEST
    if container.is_host or container.first_name in STARTERS or session in container.strangers:
        return None
    found = next((context for context in older if not _is_above(container, path[at], context)), None)
    return (found, "orphan", DEEPEST) if found is not None else None


def _orphan(container: Container, path: list[Process], alert: Alert) -> int | None:
    """Index in `path` of the process that was orphaned, None if there is none.

    It is the one below init. That it has children of its own does not matter: `_is_younger` asks when it started.
    """
    for at, process in enumerate(path):
        if process.pid == container.first or (container.is_host and container.is_init(process.pid)):
            return at - 1 if at else None
    entered = any(is_runtime(process.name) for process in path[1:])
    parent_elsewhere = len(path) == 1 and not container.is_host and alert.fields.pvpid not in (None, 0, 1)
    return None if entered or parent_elsewhere or len(path) >= VISIBLE else len(path) - 1


def _is_younger(container: Container, path: list[Process], at: int, context: Context) -> bool:
    """Whether an orphan started after a context's first shell, as its descendants do."""
    start = path[at].start
    if context.epoch and container.epoch and context.epoch != container.epoch:
        return False
    return start >= context.born if start else at == 0


def _is_above(container: Container, orphan: Process, context: Context) -> bool:
    """Whether the service of a context runs below the process, which then is not the context's."""
    return any(process.pid == orphan.pid for process in container.lineage.path(context.anchor))


def _is_habit(container: Container, alert: Alert, orphan: Process) -> bool:
    """Whether the first process had the same thing done before: a health check in the entry script, not an orphan."""
    done, before, pid = deed(alert), orphan.start or alert.time, alert.fields.pid
    return any(held.deed == done and held.time < before and held.pid != pid for held in container.waiting)


def _is_outside(container: Container, path: list[Process]) -> bool:
    inside = any(process.pid == container.first for process in path)
    return not inside and any(is_runtime(process.name) for process in path[1:])
