"""An incident as it is shown: one plain structure for the page, the JSON API, the report and the terminal.

Times are RFC 3339 text and texts are raw: each output escapes them for its place.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from msgspec import Struct

from sidecar.correlation import narrative, notification
from sidecar.correlation.notification import SECOND_NS, timeline_events
from sidecar.incidents.explain import Node, why
from sidecar.incidents.falco_event import rfc3339
from sidecar.model import RANK, GroupKind, Join, Notification, Severity, Where
from sidecar.storage.archive import Listed, Step
from sidecar.text.placeholders import filled

_ADDRESS = re.compile(r"(?:https?|ftp|tcp)://[^\s\"'<>]{1,200}|(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])(?::\d{1,5})?")
"""A URL or an IPv4 address in a command."""


class Place(Struct, frozen=True):
    """Where it is, as Falco reported it; "" for what is unknown. `words` is the most exact of it for a reader."""

    words: str
    host: str
    namespace: str = ""
    pod: str = ""
    container: str = ""
    container_name: str = ""
    image: str = ""


class Rise(Struct, frozen=True):
    """One notification: when the incident became how severe, by which case, and from which severity."""

    time: str
    severity: Severity
    case: str
    came_from: str


class Group(Struct, frozen=True):
    """One activity group of the correlation rule: whether evidence of it counts, and since how long after the first."""

    name: str
    words: str
    kind: GroupKind
    seen: bool
    detections: int
    after: float


class Process(Struct, frozen=True):
    """A process by pid (the host's) and name."""

    pid: int
    name: str


class Event(Struct, frozen=True):
    """One moment of the timeline: what one process did, which groups and Falco rules saw it, and how it joined."""

    number: int
    time: str
    after: float
    groups: list[str]
    rules: list[str]
    join: Join
    path: list[Process]
    command: str
    detail: str


class Branch(Struct, frozen=True):
    """A process of the tree, the events on it and what it started."""

    pid: int
    name: str
    events: list[Event]
    started: list["Branch"]


class Touched(Struct, frozen=True):
    """What the detections name: addresses of connections, files, and what was touched to get credentials.

    `named` are addresses that stand in commands, whether they were contacted or not.
    """

    connections: list[str]
    files: list[str]
    credentials: list[str]
    named: list[str]


class TriageStep(Struct, frozen=True):
    """A next step in words, and the command for the place of the incident, "" where there is none."""

    number: int
    do: str
    command: str


class Summary(Struct, frozen=True):
    """A row of the list."""

    id: str
    severity: Severity
    state: str
    case: str
    place: Place
    first: str
    last: str
    detections: int
    incomplete: bool
    steps: list[Rise]


class Page(Struct, frozen=True):
    """A page of the list; `total` counts all that are wanted."""

    total: int
    limit: int
    offset: int
    incidents: list[Summary]


class Incident(Struct, frozen=True):
    """An incident in full."""

    id: str
    previous: str
    severity: Severity
    state: str
    case: str
    summary: str
    correlation_rule: str
    place: Place
    first: str
    last: str
    closes: str
    detections: int
    incomplete: bool
    steps: list[Rise]
    groups: list[Group]
    timeline: list[Event]
    processes: list[Branch]
    touched: Touched
    triage: list[TriageStep]
    tags: list[str]
    links: dict[str, str]


Key = tuple[int, tuple[int, ...], str]
"""Time, pids from the anchor down and command line: what distinguishes the moments of a timeline."""


def of(
    note: Notification, steps: Sequence[Step] = (), now: int = 0, links: Mapping[str, str] | None = None
) -> Incident:
    """The incident of a notification; `now` (ns) decides whether it is open."""
    steps = steps or (Step(note.last, note.severity, note.case, note.came_from),)
    events = _events(note)
    return Incident(
        id=note.incident,
        previous=note.previous,
        severity=note.severity,
        state=_state(note.closes, now),
        case=note.case,
        summary=note.summary,
        correlation_rule=note.correlation_rule,
        place=_place(note.where),
        first=rfc3339(note.first),
        last=rfc3339(note.last),
        closes=rfc3339(note.closes),
        detections=note.count,
        incomplete=note.incomplete,
        steps=_rises(steps),
        groups=_groups(note),
        timeline=list(events.values()),
        processes=[_branch(node, events) for node in why(note)],
        touched=_touched(note),
        triage=[TriageStep(number, do, command) for number, (do, command) in enumerate(note.triage, 1)],
        tags=list(note.tags),
        links={words: filled(url, _link_values(note), _quoted) for words, url in (links or {}).items()},
    )


def row(listed: Listed, now: int) -> Summary:
    """A row of the list."""
    where = Where(listed.host, listed.container, listed.container, "", listed.namespace, listed.pod)
    return Summary(
        id=listed.id,
        severity=listed.severity,
        state=_state(listed.closes, now),
        case=listed.case,
        place=Place(notification.place(where), listed.host, listed.namespace, listed.pod, "", listed.container),
        first=rfc3339(listed.first),
        last=rfc3339(listed.last),
        detections=listed.count,
        incomplete=listed.incomplete,
        steps=_rises(listed.steps),
    )


def _state(closes: int, now: int) -> str:
    return "open" if closes > now else "closed"


def _place(where: Where) -> Place:
    names = where.namespace, where.pod, where.container, where.container_name, where.image
    return Place(notification.place(where), where.host, *names)


def _rises(steps: Iterable[Step]) -> list[Rise]:
    told = sorted(steps, key=lambda step: RANK[step.severity])
    return [Rise(rfc3339(step.time), step.severity, step.case, step.came_from) for step in told]


def _groups(note: Notification) -> list[Group]:
    found = []
    for name, kind in note.row or tuple((name, "evidence") for name in note.groups):
        times = [detection.time for detection, groups in note.timeline if name in groups]
        after = (min(times) - note.first) / SECOND_NS if times else 0.0
        words = name.replace("_", " ").capitalize()
        found.append(Group(name, words, kind, name in note.groups, len(times), after))
    return found


def _events(note: Notification) -> dict[Key, Event]:
    events: dict[Key, Event] = {}
    for number, (detection, groups, rules) in enumerate(timeline_events(note), 1):
        path = [Process(pid, name) for pid, name in reversed(detection.path)]
        events[detection.time, tuple(process.pid for process in path), detection.cmdline] = Event(
            number=number,
            time=rfc3339(detection.time),
            after=(detection.time - note.first) / SECOND_NS,
            groups=list(groups),
            rules=list(rules),
            join=detection.join,
            path=path,
            command=detection.cmdline,
            detail=detection.detail,
        )
    return events


def _branch(node: Node, events: Mapping[Key, Event], above: tuple[int, ...] = ()) -> Branch:
    pids = (*above, node.pid)
    own = [events[seen.time, pids, seen.cmdline] for seen in node.told]
    return Branch(node.pid, node.name, own, [_branch(child, events, pids) for child in node.children])


def _touched(note: Notification) -> Touched:
    sensitive = {name for name, kind in note.row if kind == "credentials"}
    connections, files, credentials, named = (dict[str, None]() for _ in range(4))
    for detection, groups in note.timeline:
        remote = narrative.remote_of(detection.detail)
        if sensitive.intersection(groups):
            credentials[detection.detail or detection.cmdline] = None
        elif detection.detail:
            (connections if remote else files)[remote or detection.detail] = None
        named |= dict.fromkeys(_ADDRESS.findall(detection.cmdline))
    return Touched(list(connections), list(files), list(credentials), list(named))


def _link_values(note: Notification) -> dict[str, str]:
    where = note.where
    return {
        "incident": note.incident,
        "severity": note.severity,
        "namespace": where.namespace,
        "pod": where.pod,
        "container": where.container,
        "host": where.host,
        "first_ms": str(note.first // 1_000_000),
        "last_ms": str(note.last // 1_000_000),
    }


def _quoted(text: str) -> str:
    return quote(text, safe="")
