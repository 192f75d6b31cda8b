"""Which context an orphan belongs to, whose ancestors no longer lead to a service: the doubtful part of membership.

An orphan hangs below init, the container's first process, or nothing. Its session, its pid, its start, and what
happened in its container before tell whether it came from a web shell, from the first process itself, or from outside.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from sidecar.correlation.anchors import STARTERS
from sidecar.correlation.memory.container import Container
from sidecar.correlation.memory.context import Context
from sidecar.correlation.memory.inits import INITS, is_outside, is_runtime
from sidecar.correlation.memory.lineage import MAX_DEPTH, MAX_VISIBLE
from sidecar.correlation.memory.pending import PendingDetection, fingerprint
from sidecar.correlation.memory.process import Process
from sidecar.meaning.boundary import boundary
from sidecar.meaning.tables import remembered
from sidecar.model import Alert, Join

RESTART_SHIFT = 20_000_000
"""Nanoseconds by which start times may move when Falco restarts: older processes have theirs in steps of 10 ms."""

JOB_DAEMONS = frozenset(("atd",))
"""Programs that run later what a member handed over to them with one of `context.JOB_SUBMITTERS`."""

HEIR_PIDS = 8
"""Processes that start between a member and the orphan that it leaves, at most: `(setsid cmd &)` needs two."""

HEIR_NS = 500_000_000
"""Nanoseconds between their starts, at most: 3 ms were measured, 50 ms for a double fork in Python."""

LETTING_IN = frozenset(("entries", "job_runners"))
"""Kinds of boundaries whose processes live on beside a service, unlike a package manager."""

MAX_COMPARED = 64
"""Pending detections that an orphan is compared with."""

Joined = tuple[Context, Join, int]
"""The context, how the detection joined it, and the index in its path up to which it is shown: the anchor's, or all."""

Origin = Literal["init", "adopted", "entered", "unknown"]
"""Where a path leads: it is the first process itself, hangs below it, came in from outside, or ends before that."""


def join_as_orphan(container: Container, index: int, path: list[Process], alert: Alert) -> Joined | None:
    """The context of an orphan, or of a process below one; None if it belongs to none."""
    if (context := _handed_over(container, index, path, alert)) is not None:
        return context, "orphan", MAX_DEPTH
    origin, at = _origin(container, path, alert)
    if path[at].has_exact_parent:
        return None
    session = max(alert.fields.sid or 0, 0)
    if origin in ("init", "entered") or _is_of_first_process(container, path, at, origin, alert):
        container.mark_foreign(session)
        return None
    younger = [context for context in container.contexts_of(index) if _is_younger(container, path, at, context)]
    younger.sort(key=lambda context: context.started, reverse=True)
    candidates = [context for context in younger if not _is_above(container, path[at], context)]
    for context in candidates:
        if session and session in context.sessions:
            return context, "session", MAX_DEPTH
    found = None
    if container.is_host:
        found = _inherited(container, index, path[at], session, alert.fields.uid)
    elif candidates and origin == "adopted" and not _starts_work(container, session):
        found = candidates[0]
    return (found, "orphan", MAX_DEPTH) if found is not None else None


def _starts_work(container: Container, session: int) -> bool:
    """Whether a child of the first process in a session may be its own, not an orphan."""
    return container.init_name in STARTERS or session in container.foreign_sessions


def _origin(container: Container, path: list[Process], alert: Alert) -> tuple[Origin, int]:
    """Where the path leads, and the index in it of the process that was orphaned, if one was: the one below init.

    Children of its own do not matter: `_is_younger` compares when it started.
    """
    if any(map(_lets_in, path[1:])):
        return "entered", len(path) - 1
    for at, process in enumerate(path):
        if process.pid == container.init_pid or (container.is_host and container.is_init(process.pid)):
            return ("adopted", at - 1) if at else ("init", 0)
    top = len(path) - 1
    if has_entered(path):
        return "entered", top
    if container.is_host:
        return "unknown", top
    parent = alert.fields.pvpid if not top else None
    if parent == 0:
        return "entered", top  # its parent is not in the container
    is_cut = len(path) >= MAX_VISIBLE or parent not in (None, 1) or (bool(container.init_pid) and parent != 1)
    return "unknown" if is_cut else "adopted", top


def has_entered(path: Sequence[Process]) -> bool:
    """Whether a path that does not lead to the container's first process leads to a runtime outside.

    A process inside may be named like a runtime: one that has others above it, further than an alert shows.
    """
    for at in range(1, len(path)):
        if is_runtime(path[at].name):
            return len(path) < MAX_VISIBLE or is_outside(process.name for process in path[at + 1 :])
    return False


def _lets_in(process: Process) -> bool:
    """Whether a process lets people or jobs in: what it starts was not orphaned. By name where its file is unknown."""
    command = process.command
    if process.file:
        return boundary(process.file, command) in LETTING_IN
    return _is_named_like_one_that_lets_in(process.name, command)


@remembered
def _is_named_like_one_that_lets_in(name: str, command: str) -> bool:
    return any(boundary(f"/usr/{folder}/{name}", command) in LETTING_IN for folder in ("bin", "sbin"))


def _is_younger(container: Container, path: list[Process], at: int, context: Context) -> bool:
    """Whether an orphan started after a context's first shell, as all its descendants did.

    Where its start is unknown its pid decides, since pids are given out in order; one that was seen before is older.
    """
    if context.init_epoch and container.init_epoch and context.init_epoch != container.init_epoch:
        return False
    orphan = path[at]
    if orphan.start:
        return orphan.start >= context.started - RESTART_SHIFT
    if at and not (container.is_host or container.init_pid):
        return False  # it may be another first process
    return orphan.parent_since >= context.started and (not at or orphan.pid > context.shell_pid)


def _is_above(container: Container, orphan: Process, context: Context) -> bool:
    """Whether the process is an ancestor of the context's anchor, and so not an orphan of the context."""
    return any(process.pid == orphan.pid for process in container.lineage.path(context.anchor, context.anchor_start))


def _inherited(container: Container, index: int, orphan: Process, session: int, uid: int | None) -> Context | None:
    """On a host: the context of a member that started right before the orphan, and that the orphan outlived.

    Nothing else ties them together after `(setsid cmd &)`, `setsid -f`, or a double fork, but the user: what another
    user detaches at the same moment, such as an administrator, is not of the context.
    """
    for pid in range(orphan.pid - 1, max(orphan.pid - 1 - HEIR_PIDS, 1), -1):
        member = container.lineage[pid]
        if member is None or (session and not pid < session <= orphan.pid):
            continue
        if orphan.start and member.start and not -RESTART_SHIFT <= orphan.start - member.start <= HEIR_NS:
            continue
        for process in container.lineage.path(pid)[1:]:
            context = container.contexts.get((index, process.key))
            if context is None or not _is_user_of(context, uid):
                continue
            if pid >= context.shell_pid and orphan.parent_since >= context.started:
                return context
    return None


def _handed_over(container: Container, index: int, path: list[Process], alert: Alert) -> Context | None:
    """The context a member of which handed over to a job daemon what the process does now."""
    for context in container.contexts_of(index):
        if context.jobs_since and _is_job(path, context, alert):
            return context
    return None


def _is_job(path: list[Process], context: Context, alert: Alert) -> bool:
    """Whether a job daemon runs for it what a member of the context handed over."""
    if not _is_user_of(context, alert.fields.uid):
        return False
    for job, daemon in pairwise(path):
        if daemon.program in JOB_DAEMONS and job.program not in JOB_DAEMONS:
            return job.start >= context.jobs_since if job.start else job.parent_since >= context.jobs_since
    return False


def _is_user_of(context: Context, uid: int | None) -> bool:
    """Whether a shell of the context may have run as a user."""
    return uid is None or not context.uids or uid in context.uids


def _is_of_first_process(container: Container, path: list[Process], at: int, origin: Origin, alert: Alert) -> bool:
    """Whether a child of the first process is its own, not an orphan: the same happened before the child started.

    A first process that only reaps has one child at the beginning, so only the same behaviour counts there. Any other
    is known to start work by itself as soon as one of its children was detected.
    """
    if origin != "adopted" or container.is_host or not container.init_pid or not container.pending.size:
        return False
    orphan = path[at]
    only_reaps = container.init_name in INITS
    behaviour = fingerprint(alert)
    started = orphan.start or alert.time
    compared = 0
    for pending in container.pending:
        is_same = pending.fingerprint == behaviour
        if (only_reaps and not is_same) or pending.time >= started or pending.pid == alert.fields.pid:
            continue
        if compared >= MAX_COMPARED:
            return False
        compared += 1
        if _is_sibling(container, pending, orphan, directly=not is_same):
            return True
    return False


def _is_sibling(container: Container, pending: PendingDetection, orphan: Process, *, directly: bool) -> bool:
    """Whether a pending detection came from below another child of the same first process, under the same name.

    `directly` asks whether it was that child itself: a service below a supervisor is not the supervisor's own work.
    Otherwise the child has to be the same program: what a cron below the first process does shows nothing of its other
    children.
    """
    path = container.path(pending.pid, pending.start)
    for child, parent in pairwise(path):
        if parent.pid == container.init_pid:
            is_alike = child is path[0] if directly else child.program == orphan.program
            is_other = child.pid != orphan.pid and is_alike
            return is_other and (child.parent_name, child.parent) == (orphan.parent_name, orphan.parent)
    return False
