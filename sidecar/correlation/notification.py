"""One step of an incident as an immutable notification: the same for every sink, page and terminal."""

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from operator import attrgetter
from typing import NamedTuple, get_args

from sidecar.alerts.ancestry import is_same_start
from sidecar.correlation.memory.context import Context, OpenIncident
from sidecar.correlation.narrative import summary
from sidecar.correlation.placement import PlacedDetection
from sidecar.meaning.service import Nature, nature
from sidecar.model import CONFIDENCE, Confidence, Detection, Fields, Notification, Where
from sidecar.rules.rule import CorrelationRule
from sidecar.text.placeholders import filled_if_known

SECOND_NS = 1_000_000_000

MAX_SHELLS = 12
"""Processes that a command may name."""

WAY_IN_NS = 600 * SECOND_NS
"""How long before the first evidence the way in is looked for."""

_CONFIDENCES: tuple[Confidence, ...] = get_args(Confidence)


def notification(
    placed: PlacedDetection, rule: CorrelationRule, incident: OpenIncident, came_from: str
) -> Notification:
    """The state of an incident after the detection that decided a step; `came_from` is the severity before it."""
    context, where = placed.context, placed.container.where
    case = rule.cases[incident.case]
    detections = sorted(context.timeline, key=lambda detection: detection.time)
    timeline = tuple((detection, rule.named(detection.groups)) for detection in detections)
    fields = placed.alert.fields
    return Notification(
        incident=incident.id,
        previous=incident.previous,
        step=incident.step,
        correlation_rule=rule.id,
        case=case.name,
        severity=case.severity,
        came_from=came_from,
        groups=rule.named(context.groups_within_window(rule)),
        tags=tuple(sorted({*rule.written.tags, *_mitre(placed), "host" if placed.container.is_host else "container"})),
        where=where,
        first=incident.first,
        last=incident.last,
        count=incident.count,
        incomplete=incident.incomplete,
        timeline=timeline,
        rules=tuple(dict.fromkeys(detection.rule for detection in detections)),
        fields=fields,
        triage=tuple(_triage(rule, placed, fields)),
        summary=summary(rule.written, place(where), context.name, timeline),
        row=tuple((name, group.kind) for name, group in rule.written.groups.items()),
        closes=min(incident.last + rule.idle_timeout, incident.first + rule.max_duration),
    )


def place(where: Where) -> str:
    """The place of an incident in words, as exact as Falco reported it."""
    if where.pod:
        return f"pod {where.namespace}/{where.pod}" if where.namespace else f"pod {where.pod}"
    if where.container:
        return f"container {where.container_name or where.container}"
    return f"host {where.host}"


def _mitre(placed: PlacedDetection) -> Iterator[str]:
    """Technique and tactic tags of the Falco rule that decided the step."""
    return (tag for tag in placed.alert.tags if tag.startswith("mitre_") or (tag[:1] == "T" and tag[1:5].isdigit()))


def _triage(rule: CorrelationRule, placed: PlacedDetection, fields: Fields) -> Iterator[tuple[str, str]]:
    """The next steps, each with its command for the place of the incident, "" if it has none.

    A command that needs something unknown is left out, and the step says what to do instead.
    """
    values = {name: value and shlex.quote(value) for name, value in _values(rule, placed, fields).items()}
    where = placed.container.where
    for step in rule.written.triage:
        command = step.host
        if where.pod:
            command = step.pod or (step.container if where.container else "")
        elif where.container:
            command = step.container
        filled = filled_if_known(command, values)
        if filled is not None:
            yield step.do, filled
        else:
            yield f"{step.do}: {step.instead}" if step.instead else step.do, ""


def _values(rule: CorrelationRule, placed: PlacedDetection, fields: Fields) -> dict[str, str]:
    """Values of the placeholders."""
    where = placed.container.where
    first = _first(placed.context)
    shells = list(_shells(rule, placed))
    return {
        "namespace": where.namespace or "default",
        "pod": where.pod,
        "container": where.container,
        "container_name": where.container_name,
        "host": where.host,
        "user": fields.user or "root",
        "pid": str(fields.pid or ""),
        "vpid": str(fields.vpid or ""),
        "shells": " ".join(f"{pid}:{start}" for pid, _, start in shells),
        "shell_vpids": " ".join(f"{vpid}:{start}" for _, vpid, start in shells if vpid > 1),
        "first_seconds": str(first // SECOND_NS),
        "first_time": _time(first),
        "way_in_time": _time(first - WAY_IN_NS),
    }


def _shells(rule: CorrelationRule, placed: PlacedDetection) -> Iterator[tuple[int, int, int]]:
    """Pid, pid in the container, and start (seconds) of each process below the service that may live, newest first.

    These are the processes of the detections and their parents, unless a later process is known to have the pid.
    Without a start time a number could be another process's.
    """
    seen = set[tuple[int, int]]()
    for each in sorted(placed.context.timeline, key=attrgetter("time"), reverse=True):
        if len(seen) >= MAX_SHELLS:
            return
        path = each.path
        vpid, start, pvpid, parent_start = each.numbers
        candidates = [(path[0][0], vpid, start)] if len(path) > 1 or not placed.context.is_service else []
        if len(path) > 2 and not _is_service(rule, path[1][1]):
            candidates.append((path[1][0], pvpid, parent_start))
        for pid, vpid, start in candidates:
            if start and (pid, start) not in seen and len(seen) < MAX_SHELLS and not _has_ended(placed, pid, start):
                seen.add((pid, start))
                yield pid, vpid, start // SECOND_NS


def _has_ended(placed: PlacedDetection, pid: int, start: int) -> bool:
    """Whether another process is known to have the pid now."""
    holder = placed.container.lineage[pid]
    return holder is not None and not is_same_start(holder.start, start)


def _time(time: int) -> str:
    return f"{datetime.fromtimestamp(time // SECOND_NS, UTC).isoformat()[:19]}Z"


def _is_service(rule: CorrelationRule, name: str) -> bool:
    return nature(name, name, "") >= Nature.RUNTIME if rule.below_service else rule.is_service(name)


def _first(context: Context) -> int:
    return min(span.first for span in context.spans.values())


class TimelineEvent(NamedTuple):
    """One kernel event, however many Falco rules fired for it; `detection` is the first, `groups` are those of all."""

    detection: Detection
    groups: tuple[str, ...]
    rules: tuple[str, ...]
    detections: tuple[Detection, ...]


def timeline_events(note: Notification) -> list[TimelineEvent]:
    """The timeline with the detections of one event merged, oldest first."""
    events: dict[object, list[tuple[Detection, tuple[str, ...]]]] = {}
    for detection, groups in note.timeline:
        events.setdefault((detection.time, detection.path, detection.cmdline), []).append((detection, groups))
    return [
        TimelineEvent(
            detections[0][0],
            tuple(dict.fromkeys(group for _, groups in detections for group in groups)),
            tuple(dict.fromkeys(detection.rule for detection, _ in detections)),
            tuple(detection for detection, _ in detections),
        )
        for detections in events.values()
    ]


def confidence(note: Notification) -> Confidence:
    """How certain it is that the evidence belongs together: that of the group whose best detection is the weakest."""
    best: dict[str, int] = {}
    for detection, groups in note.timeline:
        rank = _CONFIDENCES.index(CONFIDENCE[detection.join])
        best |= {group: rank for group in groups if rank > best.get(group, -1)}
    counted = [best[group] for group in note.groups if group in best]
    return _CONFIDENCES[min(counted, default=len(_CONFIDENCES) - 1)]


def process_chain(detection: Detection) -> str:
    """The processes of a detection from the anchor down: `apache2 > sh > curl`."""
    return " > ".join(name or str(pid) for pid, name in reversed(detection.path))
