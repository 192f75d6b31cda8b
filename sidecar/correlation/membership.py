"""Which context a detection joins: by ancestry, by session, or as an orphan. `placement` explains the rules."""

from sidecar.correlation.anchors import anchors_within_boundary, is_service
from sidecar.correlation.memory.container import Container
from sidecar.correlation.memory.context import Context
from sidecar.correlation.memory.lineage import MAX_DEPTH
from sidecar.correlation.memory.process import Process
from sidecar.correlation.orphans import HEIR_NS, HEIR_PIDS, Joined, has_entered, join_as_orphan
from sidecar.meaning import tables
from sidecar.meaning.service import Nature, nature
from sidecar.model import Alert, Join
from sidecar.rules.rule import CorrelationRule

_EXECS = frozenset(("execve", "execveat"))


def join(container: Container, index: int, rule: CorrelationRule, path: list[Process], alert: Alert) -> Joined | None:
    """The context that a detection which anchors none belongs to, or None."""
    if path and (container.contexts or container.coarse):
        for at in anchors_within_boundary(rule, path):
            context = container.context(index, path[at])
            if context is not None:
                return None if _is_excluded(rule, path, at, context, alert) else (context, descent(path, at), at)
        joined = join_as_orphan(container, index, path, alert)
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


def is_foreign_job(container: Container, path: list[Process], alert: Alert) -> bool:
    """Whether a child of the container's first process was only adopted by it, and comes from a group of others.

    What the first process starts is in its process group, or leads one of its own. An administrator's background job
    that it adopted is still in the group of the administrator's shell.
    """
    group = alert.fields.pgid
    if not group or len(path) < 2 or path[1].pid != container.init_pid or group in (container.init_pid, path[0].pid):
        return False
    session = alert.fields.sid or 0
    if session > 1 and any(session in context.sessions for context in container.contexts.values()):
        return False
    if session > 1 and _is_daemon(container, path[0], group):
        return False
    return all(process.pid != container.init_pid for process in container.lineage.path(group))


def _is_daemon(container: Container, job: Process, group: int) -> bool:
    """Whether a job is a daemon of intruders: forked twice, with `setsid` between, right after their program."""
    for pid in range(group - 1, max(group - 1 - HEIR_PIDS, 1), -1):
        member = container.lineage[pid]
        if member is None or not member.start or not 0 <= job.start - member.start <= HEIR_NS:
            continue
        if any(above.is_anchor for above in container.lineage.path(pid)[1:]):
            return True
    return False


def _is_excluded(rule: CorrelationRule, path: list[Process], at: int, context: Context, alert: Alert) -> bool:
    """Whether a detection below an anchor is not the intruder's: the service's own doing, or that of an adopted job."""
    return any(process.is_foreign for process in path[:at]) or _is_service_itself(rule, path, at, context, alert)


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
    if path[0].has_shell_below and not _runs_code_itself(path[at]):
        return True
    return all(_is_part_of(rule, process, path[at]) for process in path[: at + 1])


def _runs_code_itself(anchor: Process) -> bool:
    """Whether a service's code runs inside it, as in a web server, so that its children are programs of their own."""
    kinds = (tables.current().services[kind] for kind in ("web_servers", "databases"))
    return any(kind.has_file(anchor.file) or kind.has_file(anchor.name) for kind in kinds)


def _is_from_entry_script(rule: CorrelationRule, child: Process, anchor: Process) -> bool:
    """Whether the anchor was still a script, not the service, when it started the child: `wait; exec php-fpm`."""
    if child.parent_file and child.parent_file == anchor.file:
        return False
    if rule.below_service and nature(child.file or child.name, child.name, child.command) is Nature.SERVICE:
        return False  # `php-fpm & exec nginx`: a service beside it, whose shells anchored the context
    if not child.parent_name or not is_service(rule, anchor):
        return False
    if not rule.below_service:
        return not rule.is_service(child.parent_name)
    return nature(child.parent_name, child.parent_name, "") < Nature.RUNTIME


def _is_part_of(rule: CorrelationRule, process: Process, anchor: Process) -> bool:
    """Whether a process that no detection was about is part of the service: a worker, an interpreter that it runs."""
    if rule.below_service:
        if anchor.file and (process.file, process.name) == (anchor.file, anchor.name):
            return True
        if _runs_code_itself(anchor):
            return nature(process.file or process.name, process.name, process.command) is Nature.SERVICE
    return is_service(rule, process)


def _is_outside(container: Container, path: list[Process]) -> bool:
    inside = any(process.pid == container.init_pid for process in path)
    return not inside and has_entered(path)
