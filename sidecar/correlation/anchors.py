"""Which process anchors a context: the service root, the outermost service process above a web-shell detection.

So commands of one web shell that hit different workers share a context, and what the service did before does not join.
"""

from sidecar.correlation.memory.container import COARSE_ANCHOR, Container
from sidecar.correlation.memory.context import Context
from sidecar.correlation.memory.inits import INITS, is_runtime
from sidecar.correlation.memory.process import Process
from sidecar.correlation.serving import within_boundary
from sidecar.meaning.service import Nature, nature
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
"""Processes whose children are services of their own, not part of theirs."""

SYSTEM_MANAGERS = frozenset(("systemd", "systemd-executo", "(sd-executor)"))

STARTERS = frozenset(("systemd", "cron", "crond", "supercronic", "anacron", "atd", "fcron"))
"""First processes that keep starting work by themselves, each job in a session of its own."""


def coarse(container: Container, index: int, alert: Alert) -> Context:
    """The context of the container as a whole."""
    context = container.coarse.get(index)
    if context is None:
        context = _new(container, COARSE_ANCHOR, "", alert, is_service=False)
        container.coarse[index] = context
        container.contexts.revision += 1
    return context


def _new(container: Container, anchor: int, name: str, alert: Alert, *, is_service: bool) -> Context:
    started = alert.fields.start or alert.time
    context = Context(anchor, name, is_service, started, container.init_epoch, {}, [], set(), anchor_renewed=alert.time)
    context.shell_pid = alert.fields.pid or 0
    return context


def anchored(
    container: Container, index: int, rule: CorrelationRule, path: list[Process], alert: Alert, service: int = 0
) -> tuple[Context, int]:
    """The context of an anchoring detection: that of the outermost known anchor above it, else a new one.

    `service` is the index in `path` of the service above it, 0 if none is known. Anchors beyond a boundary are not its.

    Returns:
        The context, and the index of its anchor in `path`.
    """
    if not path:
        return coarse(container, index, alert), 0
    container.infer_init(path)
    contexts = container.contexts
    anchors = [at for at in anchors_within_boundary(rule, path) if (index, path[at].key) in contexts]
    outermost = max(_service_root(container, rule, path, service), *anchors, 0)
    root = path[outermost]
    context = container.context(index, root) if root.is_anchor else None
    if context is None:
        context = _new(container, root.pid, root.name, alert, is_service=outermost > 0)
        context.anchor_start = root.start
        contexts.add((index, root.key), context)
        root.is_anchor = True
    elif context.starts_earlier(alert):
        contexts.revision += 1
    for at in anchors:
        if at != outermost:
            contexts.merge(context, (index, path[at].key))
    context.add_user(alert.fields.uid)
    if not rule.context_kind:
        _mark_shell(container, path, outermost)
    return context, outermost


def _mark_shell(container: Container, path: list[Process], outermost: int) -> None:
    """Note that what runs below the first process of a path is no longer the doing of the service at an index."""
    path[0].is_shell = True
    for process in path[1:outermost]:
        if not process.has_shell_below:
            process.has_shell_below = True
            container.contexts.revision += 1


def anchors_within_boundary(rule: CorrelationRule, path: list[Process]) -> list[int]:
    """Indexes of the processes of a path that anchor contexts, the outermost first, up to a boundary."""
    anchors = [at for at in range(len(path) - 1, -1, -1) if path[at].is_anchor]
    if not anchors or not anchors[0] or not rule.below_service:
        return anchors
    reach = within_boundary(path[: anchors[0] + 1])
    return [at for at in anchors if at < reach]


def is_service(rule: CorrelationRule, process: Process) -> bool:
    """Whether a process belongs to a service that contexts of a rule hang on, as far as its file says."""
    if not rule.below_service:
        return rule.is_service(process.name)
    return nature(process.file or process.name, process.name, process.command) >= Nature.RUNTIME


def is_started_by_system_manager(container: Container, path: list[Process]) -> bool:
    """Whether the system manager of a host started the process of a path."""
    return container.is_host and len(path) > 1 and path[1].name in SYSTEM_MANAGERS


def _service_root(container: Container, rule: CorrelationRule, path: list[Process], service: int) -> int:
    """Index in `path` of the service root: the outermost service process above the detection's own.

    `service` is its index where that was decided before. Without a service it is the outermost of the parent and the
    processes of the same name directly above it; if the parent starts anything (an init, a container runtime), it is
    the process itself.
    """
    if service:
        return service
    for index in range(len(path) - 1, 0, -1):
        if not rule.below_service and rule.is_service(path[index].name):
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
