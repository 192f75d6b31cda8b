"""Why an incident: which processes, in which tree, with which detections, joined how. Data for pages and terminals."""

from msgspec import Struct

from sidecar.correlation.notification import timeline_events
from sidecar.model import Detection, Notification


class Seen(Struct, frozen=True):
    """One moment of a process: its groups, the Falco rules that saw it, the command line and how it joined."""

    groups: tuple[str, ...]
    rules: tuple[str, ...]
    cmdline: str
    detail: str
    join: str
    time: int


class Node(Struct):
    """A process of an incident with what was detected on it and what it started."""

    pid: int
    name: str
    told: list[Seen]
    children: list["Node"]


def why(note: Notification) -> list[Node]:
    """The process trees of an incident: the anchor's first, then those of orphans that lineage does not tie to it."""
    roots: dict[int, Node] = {}
    known: dict[tuple[int, ...], Node] = {}
    for detection, groups, rules in timeline_events(note):
        node = _grow(roots, known, detection)
        seen = Seen(groups, rules, detection.cmdline, detection.detail, detection.join, detection.time)
        node.told.append(seen)
    return list(roots.values())


def _grow(roots: dict[int, Node], known: dict[tuple[int, ...], Node], detection: Detection) -> Node:
    """The node of a detection's process, with all above it made where they are missing."""
    above: Node | None = None
    pids: tuple[int, ...] = ()
    for pid, name in reversed(detection.path):
        pids = (*pids, pid)
        node = known.get(pids)
        if node is None:
            node = known[pids] = Node(pid, name, [], [])
            if above is None:
                roots[pid] = node
            else:
                above.children.append(node)
        above = node
    assert above is not None  # noqa: S101 - a path names at least the detection's own process
    return above
