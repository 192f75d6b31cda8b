"""Which context a detection joins: by ancestry, by session, or as an orphan. `placement` explains the rules."""

from sidecar.correlation.anchors import STARTERS, is_service
from sidecar.correlation.memory.container import Container
from sidecar.correlation.memory.context import Context
from sidecar.correlation.memory.lineage import MAX_DEPTH, MAX_VISIBLE, Process, is_runtime
from sidecar.correlation.memory.pending import fingerprint
from sidecar.correlation.serving import within_boundary
from sidecar.meaning.service import Nature, nature
from sidecar.model import Alert, Join
from sidecar.rules.rule import CorrelationRule

RESTART_SHIFT = 20_000_000
"""Nanoseconds by which start times may move when Falco restarts: older processes have theirs in steps of 10 ms."""

_EXECS = frozenset(("execve", "execveat"))

Joined = tuple[Context, Join, int]
"""The context, how the detection joined it, and the index in its path up to which it is shown: the anchor's, or all."""


def join(container: Container, index: int, rule: CorrelationRule, path: list[Process], alert: Alert) -> Joined | None:
    """The context that a detection which anchors none belongs to, or None."""
    if path and (container.contexts or container.coarse):
        reach = within_boundary(path) if rule.below_service else len(path)
        for at in range(reach - 1, -1, -1):
            if not path[at].is_anchor:
                continue
            context = container.context(index, path[at])
            if context is not None:
                return None if _is_service_itself(rule, path, at, context, alert) else (context, descent(path, at), at)
        joined = _join_as_orphan(container, index, path, alert)
        if joined is not None:
            return joined
    coarse = container.coarse.get(index)
    if coarse is None or container.is_host or _is_outside(container, path):
        return None
    return coarse, "container", MAX_DEPTH


def descent(path: list[Process], at: int) -> Join:
    """How it is known that the first process of a path descends from the one at an index."""
    for process in path[: at or 1]:
        if not process.has_exact_parent:
            return "lineage"
    return "ancestry" if path else "lineage"


def _is_service_itself(rule: CorrelationRule, path: list[Process], at: int, context: Context, alert: Alert) -> bool:
    """Whether the detection is the service's own doing; `at` is the index of the anchor in its path."""
    if not at:
        return context.is_service
    child = path[at - 1]
    if child.parent_since < context.started and _is_from_entry_script(rule, child, path[at]):
        return True
    if alert.fields.evt_type in _EXECS:
        return False
    for process in path[:at]:
        if process.is_shell:
            return False
    return path[0].has_shell_below or all(_is_part_of(rule, process, path[at]) for process in path[: at + 1])


def _is_from_entry_script(rule: CorrelationRule, child: Process, anchor: Process) -> bool:
    """Whether the anchor was still a script, not the service, when it started the child: `wait; exec php-fpm`."""
    if not child.parent_name or not is_service(rule, anchor):
        return False
    if not rule.below_service:
        return not rule.is_service(child.parent_name)
    return nature(child.parent_name, child.parent_name, "") < Nature.RUNTIME


def _is_part_of(rule: CorrelationRule, process: Process, anchor: Process) -> bool:
    """Whether a process that no detection was about is part of the service: a worker, an interpreter that it runs."""
    return is_service(rule, process) or (
        rule.below_service and bool(anchor.file) and (process.file, process.name) == (anchor.file, anchor.name)
    )


def _join_as_orphan(container: Container, index: int, path: list[Process], alert: Alert) -> Joined | None:
    """The context of an orphan, or of a process below one."""
    session = max(alert.fields.sid or 0, 0)
    at = _orphan_index(container, path, alert)
    if path[at or 0].has_exact_parent:
        return None
    if at is None or _is_habitual(container, alert, path[at]):
        container.mark_foreign(session)
        return None
    candidates = [context for context in container.contexts_of(index) if _is_younger(container, path, at, context)]
    candidates.sort(key=lambda context: context.started, reverse=True)
    for context in candidates:
        if session and session in context.sessions and not _is_above(container, path[at], context):
            return context, "session", MAX_DEPTH
    if container.is_host or container.init_name in STARTERS or session in container.foreign_sessions:
        return None
    for context in candidates:
        if not _is_above(container, path[at], context):
            return context, "orphan", MAX_DEPTH
    return None


def _orphan_index(container: Container, path: list[Process], alert: Alert) -> int | None:
    """Index in `path` of the process that was orphaned: the one below init. None if there is none.

    Children of its own do not matter: `_is_younger` compares when it started.
    """
    for at, process in enumerate(path):
        if process.pid == container.init_pid or (container.is_host and container.is_init(process.pid)):
            return at - 1 if at else None
    entered = any(is_runtime(process.name) for process in path[1:])
    parent_elsewhere = len(path) == 1 and not container.is_host and alert.fields.pvpid not in (None, 0, 1)
    return None if entered or parent_elsewhere or len(path) >= MAX_VISIBLE else len(path) - 1


def _is_younger(container: Container, path: list[Process], at: int, context: Context) -> bool:
    """Whether an orphan started after a context's first shell, as all its descendants did."""
    if context.init_epoch and container.init_epoch and context.init_epoch != container.init_epoch:
        return False
    start = path[at].start
    return start >= context.started - RESTART_SHIFT if start else at == 0


def _is_above(container: Container, orphan: Process, context: Context) -> bool:
    """Whether the process is an ancestor of the context's anchor, and so not an orphan of the context."""
    return any(process.pid == orphan.pid for process in container.lineage.path(context.anchor, context.anchor_start))


def _is_habitual(container: Container, alert: Alert, orphan: Process) -> bool:
    """Whether the same happened before the orphan started: a health check of the entry script, not an orphan."""
    own_fingerprint = fingerprint(alert)
    started = orphan.start or alert.time
    return any(
        pending.fingerprint == own_fingerprint and pending.time < started and pending.pid != alert.fields.pid
        for pending in container.pending
    )


def _is_outside(container: Container, path: list[Process]) -> bool:
    inside = any(process.pid == container.init_pid for process in path)
    return not inside and any(is_runtime(process.name) for process in path[1:])
