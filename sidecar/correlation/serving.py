"""Whether a service is above a process, and which (questions 1 and 3): what it is by its file, and what was seen of it.

The ancestors are walked from the nearest one outwards, at any depth, until a boundary. A program that may serve is a
service if it, or an ancestor of the same file, listened; and in doubt, if it started before we watched.
"""

from collections.abc import Sequence
from enum import IntEnum

from sidecar.correlation.memory.container import Container
from sidecar.correlation.memory.process import Process
from sidecar.correlation.memory.servers import Servers
from sidecar.meaning.boundary import EXECUTORS, OF_JOBS, UNPROTECTED, boundary, is_of_context_kind
from sidecar.meaning.service import Nature, nature

_JOBS = (Nature.JOB_SCRIPT, Nature.JOB_TOOL, Nature.RUNTIME)


class Serves(IntEnum):
    """Whether a process serves."""

    NO = 0
    JOB = 1
    """It does not: it is a tool for jobs, or was watched from its start."""
    PERHAPS = 2
    """Nobody can know."""
    YES = 3


def service_above(container: Container, path: Sequence[Process], servers: Servers, time: int) -> tuple[int, str]:
    """The service that started the process of a path, directly or not; `time` is that of its alert (ns).

    Returns:
        The index in `path` of the service's root, 0 if no service is above it, and then the reason, one of
        `meaning.declined.REASONS`.
    """
    boundaries = [boundary(process.file or process.name, process.command) for process in path]
    end = next((at for at in range(1, len(path)) if boundaries[at] and boundaries[at] not in UNPROTECTED), len(path))
    if EXECUTORS not in boundaries:
        for at in range(end - 1, 0, -1):
            if not boundaries[at] and _nature(path[at]) is Nature.SERVICE:
                return at, ""  # a service by its file is the root, whatever else serves
    serving = [Serves.NO, *(_serves(container, path, at, servers, time) for at in range(1, end))]
    if EXECUTORS in boundaries:
        _leave_out_executors(boundaries, serving)
    known = [
        at
        for at in range(1, end)
        if serving[at] is Serves.YES and not boundaries[at] and not _is_job_below(path, serving, at)
    ]
    if known:
        return _root(path, known, end), ""
    return _perhaps_above(path, serving, boundaries[: end + 1])


def _leave_out_executors(boundaries: list[str], serving: Sequence[Serves]) -> None:
    """Take executors that something above them may have started as a service for what they may be: any program."""
    is_below_service = False
    for at in range(len(serving) - 1, 0, -1):
        if boundaries[at] == EXECUTORS and is_below_service:
            boundaries[at] = ""
        is_below_service |= serving[at] >= Serves.PERHAPS and not boundaries[at]


def _is_job_below(path: Sequence[Process], serving: Sequence[Serves], at: int) -> bool:
    """Whether a tool for jobs that has a port of its own runs one: a program that was watched and serves nothing."""
    return _nature(path[at]) is Nature.JOB_TOOL and any(
        serving[below] is Serves.JOB and _nature(path[below]) in _JOBS for below in range(1, at)
    )


def _root(path: Sequence[Process], known: Sequence[int], end: int) -> int:
    """Index of the root of a service: the outermost process that is a service by its file, if there is one.

    Another program that listened hangs its contexts on itself and its masters of the same file: a Python program that
    has a port and starts all else on a machine would join what has nothing in common.
    """
    by_file = [at for at in known if _nature(path[at]) is Nature.SERVICE]
    if by_file:
        return by_file[-1]
    at = known[0]
    while at + 1 < end and path[at + 1].program == path[at].program:
        at += 1
    return at


def _perhaps_above(path: Sequence[Process], serving: Sequence[Serves], boundaries: Sequence[str]) -> tuple[int, str]:
    """The same where no process is known to serve: one that may, unless it is part of a job."""
    perhaps = 0
    reason = "no_service"
    for at in range(1, len(boundaries)):
        if boundaries[at]:
            if perhaps and boundaries[at] not in OF_JOBS:
                return perhaps, ""
            return 0, reason if reason == "not_serving" and boundaries[at] not in OF_JOBS else "boundary"
        if serving[at] is Serves.JOB:
            if _nature(path[at]) is Nature.JOB_TOOL:
                return 0, "job_tool"
            reason = "not_serving"
        elif serving[at] is Serves.PERHAPS:
            perhaps = at
    return (perhaps, "") if perhaps else (0, reason)


def outermost_of_kind(kind: str, path: Sequence[Process]) -> int:
    """Index of the outermost ancestor in a path that contexts of a kind hang on, 0 if there is none."""
    for at in range(len(path) - 1, 0, -1):
        process = path[at]
        if is_of_context_kind(kind, process.file or process.name, process.name, process.command):
            return at
    return 0


def within_boundary(path: Sequence[Process]) -> int:
    """How many processes of a path, from the first, are on this side of a boundary; the first is never one."""
    for at, process in enumerate(path[1:], 1):
        kind = boundary(process.file or process.name, process.command)
        if kind and kind not in UNPROTECTED:
            return at
    return len(path)


def _nature(process: Process) -> Nature:
    """What a process is. An unknown program is what it calls itself: that can only make it more suspicious."""
    what = nature(process.file or process.name, process.name, process.command)
    return max(what, nature(process.name, process.name, process.command)) if what is Nature.PROGRAM else what


def _serves(container: Container, path: Sequence[Process], at: int, servers: Servers, time: int) -> Serves:
    what = _nature(path[at])
    if what is Nature.SERVICE:
        return Serves.YES
    if what is Nature.NONE or (what is Nature.PROGRAM and container.is_host):
        return Serves.NO
    listened = _listened(container, path, at, servers, time)
    if listened:
        return Serves.YES
    if what is Nature.PROGRAM:
        return Serves.NO
    return Serves.JOB if what < Nature.RUNTIME or listened is False else Serves.PERHAPS


def _listened(container: Container, path: Sequence[Process], at: int, servers: Servers, time: int) -> bool | None:
    """Whether a process, or an ancestor with the same file, was listening at `time` (ns). None if nobody can know."""
    process = path[at]
    host, cid = container.where.host, container.where.container
    family = [process]
    if _nature(process) is not Nature.JOB_TOOL:  # a job that such a tool starts has its file, not its port
        family += [above for above in path[at + 1 :] if process.file and above.file == process.file]
    if any(each.ports or servers.listens(host, cid, each, time) for each in family):
        return True
    if process.ports is not None or servers.was_watched(host, cid, _earliest_start(path, at) or container.started):
        return False
    return None


def _earliest_start(path: Sequence[Process], at: int) -> int:
    """When a process started (ns), or, where that is unknown, the nearest ancestor of which it is known."""
    return next((process.start for process in path[at:] if process.start), 0)
