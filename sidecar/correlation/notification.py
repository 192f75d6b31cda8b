"""One step of an incident, frozen: what is told to every sink, page and terminal alike."""

import shlex
from collections.abc import Iterator
from typing import NamedTuple

from sidecar.correlation.memory.context import Context, Incident
from sidecar.correlation.narrative import summary
from sidecar.correlation.placement import Placed
from sidecar.model import Detection, Fields, Notification, Where
from sidecar.rules.rule import CorrelationRule
from sidecar.text.placeholders import filled

SECOND = 1_000_000_000


def notification(placed: Placed, rule: CorrelationRule, incident: Incident, came_from: str) -> Notification:
    """Freeze what is known of an incident at this step."""
    context, where = placed.context, placed.container.where
    case = rule.cases[incident.case]
    mask = context.fresh(rule.window, rule.anchoring, rule.sticky)
    timeline = sorted(context.timeline, key=lambda detection: detection.time)
    told = tuple((detection, rule.named(detection.groups)) for detection in timeline)
    fields = placed.alert.fields
    return Notification(
        incident=incident.id,
        previous=incident.previous,
        step=incident.step,
        correlation_rule=rule.id,
        case=case.name,
        severity=case.severity,
        came_from=came_from,
        groups=rule.named(mask),
        tags=tuple(sorted({*rule.written.tags, *_mitre(placed), "host" if placed.container.is_host else "container"})),
        where=where,
        first=incident.first,
        last=incident.last,
        count=incident.count,
        incomplete=incident.incomplete,
        timeline=told,
        rules=tuple(dict.fromkeys(detection.rule for detection in timeline)),
        fields=fields,
        triage=tuple(_triage(rule, placed, fields)),
        summary=summary(rule.written, place(where), context.name, told),
        row=tuple((name, group.kind) for name, group in rule.written.groups.items()),
        closes=min(incident.last + rule.quiet, incident.first + rule.longest),
    )


def place(where: Where) -> str:
    """The place of an incident in words, as exact as Falco told it."""
    if where.pod:
        return f"pod {where.namespace}/{where.pod}" if where.namespace else f"pod {where.pod}"
    if where.container:
        return f"container {where.container_name or where.container}"
    return f"host {where.host}"


def _mitre(placed: Placed) -> Iterator[str]:
    """Technique and tactic tags of the Falco rule that decided the step."""
    return (tag for tag in placed.alert.tags if tag.startswith("mitre_") or (tag[:1] == "T" and tag[1:5].isdigit()))


def _triage(rule: CorrelationRule, placed: Placed, fields: Fields) -> Iterator[tuple[str, str]]:
    """The next steps with their commands for the place where the incident is, "" where there is none."""
    values = _values(rule, placed, fields)
    kind = "pod" if values["pod"] else "container" if values["container"] else "host"
    for step in rule.written.triage:
        command = getattr(step, kind) or (step.container if kind == "pod" and values["container"] else "")
        yield step.do, filled(command, values, shlex.quote)


def _values(rule: CorrelationRule, placed: Placed, fields: Fields) -> dict[str, str]:
    """The shell is what started the deciding process, unless the service itself did: then it is that process."""
    where, path = placed.container.where, placed.detection.path
    below = len(path) > 2 and not rule.is_service(path[1][1])
    return {
        "namespace": where.namespace or "default",
        "pod": where.pod,
        "container": where.container,
        "container_name": where.container_name,
        "host": where.host,
        "user": fields.user or "root",
        "pid": str(fields.pid or ""),
        "vpid": str(fields.vpid or ""),
        "shell_pid": str((fields.ppid if below else fields.pid) or ""),
        "shell_vpid": str((fields.pvpid if below else fields.vpid) or ""),
        "first_seconds": str(_first(placed.context) // SECOND),
    }


def _first(context: Context) -> int:
    return min(span.first for span in context.spans.values())


class Moment(NamedTuple):
    """What one process did at one time: one kernel event, whatever number of Falco rules saw it."""

    detection: Detection
    groups: tuple[str, ...]
    rules: tuple[str, ...]


def moments(note: Notification) -> list[Moment]:
    """The timeline with the detections of one event told as one, oldest first."""
    events: dict[object, list[tuple[Detection, tuple[str, ...]]]] = {}
    for detection, groups in note.timeline:
        events.setdefault((detection.time, detection.path, detection.cmdline), []).append((detection, groups))
    return [
        Moment(
            told[0][0],
            tuple(dict.fromkeys(group for _, groups in told for group in groups)),
            tuple(dict.fromkeys(detection.rule for detection, _ in told)),
        )
        for told in events.values()
    ]


def story(detection: Detection) -> str:
    """The processes of a detection from the anchor down: `apache2 > sh > curl`."""
    return " > ".join(name or str(pid) for pid, name in reversed(detection.path))
