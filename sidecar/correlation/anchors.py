"""Where a context hangs: on the service root, the outermost service process above a web-shell detection.

So one-command-per-request web shells that hit different workers join, and what the service did before does not.
"""

from sidecar.correlation.memory.container import COARSE, Container
from sidecar.correlation.memory.context import Context
from sidecar.correlation.memory.lineage import INITS, Process, is_runtime
from sidecar.model import Alert
from sidecar.rules.rule import CorrelationRule

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


def coarse(container: Container, index: int, alert: Alert) -> Context:
    """The context of the container as a whole."""
    context = container.coarse.get(index)
    if context is None:
        context = container.coarse[index] = _new(container, COARSE, "", alert, is_service=False)
        container.contexts.changed = True
    return context


def _new(container: Container, anchor: int, name: str, alert: Alert, *, is_service: bool) -> Context:
    born = alert.fields.start or alert.time
    return Context(anchor, name, is_service, born, container.epoch, {}, [], set(), alive=alert.time)


def anchored(
    container: Container, index: int, rule: CorrelationRule, path: list[Process], alert: Alert
) -> tuple[Context, int]:
    """The context of a detection that makes one: that of the outermost known anchor above it, else a new one.

    The second is where in the path it hangs.
    """
    if not path:
        return coarse(container, index, alert), 0
    container.note_top(path)
    contexts = container.contexts
    known = [i for i, process in enumerate(path) if process.anchors and (index, process.pid) in contexts]
    outer = max(_service_root(container, rule, path), *known, 0)
    root = path[outer]
    context = container.context(index, root) if root.anchors else None
    if context is None:
        context = _new(container, root.pid, root.name, alert, is_service=outer > 0)
        contexts.add((index, root.pid), context)
        root.anchors = True
    elif (born := alert.fields.start or alert.time) < context.born:
        context.born = born
        contexts.changed = True
    for i in known:
        if i != outer:
            contexts.join(context, (index, path[i].pid))
    path[0].anchors_shell = True
    for process in path[1:outer]:
        if not process.above_shell:
            process.above_shell = contexts.changed = True
    return context, outer


def _service_root(container: Container, rule: CorrelationRule, path: list[Process]) -> int:
    """Index in `path` of the service root: the outermost service process above the detection's own.

    Without one it is the parent and what bears the same name above it; for a parent that starts anything (init, a
    container runtime) it is the process itself.
    """
    for index in range(len(path) - 1, 0, -1):
        if rule.is_service(path[index].name):
            return index
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
