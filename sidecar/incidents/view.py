"""An incident as it is shown: one plain structure for the page, the JSON API, the report and the terminal.

Times are RFC 3339 text and texts are raw: each output escapes them for its place.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from sidecar.correlation import notification
from sidecar.correlation.notification import SECOND_NS, TimelineEvent, timeline_events
from sidecar.incidents.falco_event import rfc3339
from sidecar.incidents.indicators import Indicators, indicators
from sidecar.model import RANK, Alert, Confidence, Fields, GroupKind, Join, Notification, Severity, Where
from sidecar.storage.archive import IncidentRow, Step
from sidecar.storage.search_terms import kept_alert
from sidecar.text.placeholders import filled, link_values


class Place(Struct, frozen=True):
    """Where the incident is, as Falco reported it; "" for what is unknown. `words` names the most exact part."""

    words: str
    host: str
    namespace: str = ""
    pod: str = ""
    container: str = ""
    container_name: str = ""
    image: str = ""


class Escalation(Struct, frozen=True):
    """One notification: its time, the severity and case that the incident then had, and the severity before."""

    time: str
    severity: Severity
    case: str
    came_from: str


class Group(Struct, frozen=True):
    """One activity group of the correlation rule: whether it has evidence, and seconds from the start until it did."""

    name: str
    words: str
    kind: GroupKind
    seen: bool
    detections: int
    after: float


class PathEntry(Struct, frozen=True):
    """A process by pid (the host's) and name."""

    pid: int
    name: str


class Event(Struct, frozen=True):
    """One kernel event of the timeline; `after` is in seconds since the first, `path` starts at the anchor."""

    number: int
    time: str
    after: float
    groups: list[str]
    rules: list[str]
    join: Join
    path: list[PathEntry]
    command: str
    detail: str
    expected: str = ""
    """The id of the expectation that it is; it counts for no group then."""
    user: str = ""


class KeptAlert(Struct, frozen=True):
    """An alert behind a moment of the timeline (its number), as it was kept: secrets masked, texts cut.

    `output_fields` has Falco's names and those fields only that are used here.
    """

    moment: int
    time: str
    hostname: str
    rule: str
    tags: list[str]
    output_fields: dict[str, Any]


class ProcessNode(Struct, frozen=True):
    """A process of the tree, its events, and the processes that it started."""

    pid: int
    name: str
    events: list[Event]
    started: list["ProcessNode"]


class NextStep(Struct, frozen=True):
    """A next step in words, and its command for the place of the incident, "" if it has none."""

    number: int
    do: str
    command: str


class Summary(Struct, frozen=True):
    """An incident as a row of the list."""

    id: str
    severity: Severity
    state: str
    case: str
    place: Place
    first: str
    last: str
    detections: int
    incomplete: bool
    steps: list[Escalation]


class Bar(Struct, frozen=True):
    """A bar of the histogram: when it starts, and the number of incidents of each severity; none are left out."""

    start: str
    counts: dict[Severity, int]


class Histogram(Struct, frozen=True):
    """Incidents over time, by their last evidence: bars of equal length in seconds, those without incidents too."""

    seconds: int
    bars: list[Bar]


class Page(Struct, frozen=True):
    """A page of the list; `total` counts all incidents that pass the filter.

    `severities` counts them by severity, with those of severities that the filter leaves out.
    """

    total: int
    limit: int
    offset: int
    incidents: list[Summary]
    severities: dict[Severity, int] = {}
    histogram: Histogram | None = None


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
    confidence: Confidence
    steps: list[Escalation]
    groups: list[Group]
    timeline: list[Event]
    processes: list[ProcessNode]
    touched: Indicators
    triage: list[NextStep]
    tags: list[str]
    links: dict[str, str]
    alerts: list[KeptAlert] = []
    """In the order of the timeline. Of old incidents, and where memory was short, none are kept."""


def from_notification(
    note: Notification, steps: Sequence[Step] = (), now: int = 0, links: Mapping[str, str] | None = None
) -> Incident:
    """The incident of a notification; `now` (ns) decides whether it is open."""
    steps = steps or (Step(note.last, note.severity, note.case, note.came_from),)
    moments = timeline_events(note)
    alerts = list(_kept_alerts(moments))
    events = _events(note, moments, {each.moment: each for each in reversed(alerts)})
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
        confidence=notification.confidence(note),
        steps=_escalations(steps),
        groups=_groups(note),
        timeline=events,
        processes=_process_trees(events),
        touched=indicators(note),
        triage=[NextStep(number, do, command) for number, (do, command) in enumerate(note.triage, 1)],
        tags=list(note.tags),
        links={words: filled(url, link_values(note), _quoted) for words, url in (links or {}).items()},
        alerts=alerts,
    )


def summary(row: IncidentRow, now: int) -> Summary:
    """A row of the list; `now` (ns) decides whether the incident is open."""
    where = Where(row.host, row.container, row.container, "", row.namespace, row.pod)
    return Summary(
        id=row.id,
        severity=row.severity,
        state=_state(row.closes, now),
        case=row.case,
        place=Place(notification.place(where), row.host, row.namespace, row.pod, "", row.container),
        first=rfc3339(row.first),
        last=rfc3339(row.last),
        detections=row.count,
        incomplete=row.incomplete,
        steps=_escalations(row.steps),
    )


def _state(closes: int, now: int) -> str:
    return "open" if closes > now else "closed"


def _place(where: Where) -> Place:
    names = where.namespace, where.pod, where.container, where.container_name, where.image
    return Place(notification.place(where), where.host, *names)


def _escalations(steps: Iterable[Step]) -> list[Escalation]:
    return [
        Escalation(rfc3339(step.time), step.severity, step.case, step.came_from)
        for step in sorted(steps, key=lambda step: RANK[step.severity])
    ]


def _groups(note: Notification) -> list[Group]:
    groups = []
    for name, kind in note.row or tuple((name, "evidence") for name in note.groups):
        times = [detection.time for detection, names in note.timeline if name in names]
        after = (min(times) - note.first) / SECOND_NS if times else 0.0
        words = name.replace("_", " ").capitalize()
        groups.append(Group(name, words, kind, name in note.groups, len(times), after))
    return groups


def _kept_alerts(moments: Iterable[TimelineEvent]) -> Iterator[KeptAlert]:
    for number, moment in enumerate(moments, 1):
        for alert in filter(None, map(kept_alert, moment.detections)):
            yield KeptAlert(
                number, rfc3339(alert.time), alert.host, alert.rule, list(alert.tags), _output_fields(alert)
            )


def _output_fields(alert: Alert) -> dict[str, Any]:
    """The fields that Falco gave, under its names."""
    names = zip(Fields.__struct_fields__, Fields.__struct_encode_fields__, strict=True)
    values = {falco: getattr(alert.fields, name) for name, falco in names if not name.startswith("fallback_")}
    return {falco: value for falco, value in values.items() if value is not None}


def _events(note: Notification, moments: Iterable[TimelineEvent], alerts: Mapping[int, KeptAlert]) -> list[Event]:
    return [
        Event(
            number=number,
            time=rfc3339(detection.time),
            after=(detection.time - note.first) / SECOND_NS,
            groups=list(groups),
            rules=list(rules),
            join=detection.join,
            path=[PathEntry(pid, name) for pid, name in reversed(detection.path)],
            command=detection.cmdline,
            detail=detection.detail,
            expected=detection.expected,
            user=alerts[number].output_fields.get("user.name", "") if number in alerts else "",
        )
        for number, (detection, groups, rules, _) in enumerate(moments, 1)
    ]


def _process_trees(events: Iterable[Event]) -> list[ProcessNode]:
    """The processes of the events: the tree of the anchor first, then those of orphans that lineage does not tie to it.

    A process is identified by the pids above it, since a pid alone may be used twice during an incident.
    """
    roots: list[ProcessNode] = []
    nodes: dict[tuple[int, ...], ProcessNode] = {}
    for event in events:
        siblings = roots
        pids: tuple[int, ...] = ()
        for process in event.path:
            pids = (*pids, process.pid)
            if pids not in nodes:
                nodes[pids] = ProcessNode(process.pid, process.name, [], [])
                siblings.append(nodes[pids])
            siblings = nodes[pids].started
        nodes[pids].events.append(event)
    return roots


def _quoted(text: str) -> str:
    return quote(text, safe="")
