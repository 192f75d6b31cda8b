"""Why detections led to no incident: the groups that were there, what was missing, and what was declined, and why."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from sidecar.correlation.memory.container import Container
from sidecar.correlation.memory.context import Context
from sidecar.correlation.memory.pending import PendingDetection
from sidecar.correlation.memory.process import Process
from sidecar.correlation.notification import place
from sidecar.correlation.pipeline import Pipeline
from sidecar.correlation.placement import DeclinedDetection
from sidecar.correlation.serving import service_above
from sidecar.meaning.declined import REASONS, Reason
from sidecar.rules.rule import CorrelationRule
from sidecar.text import escape

MAX_PLACES = 50
"""Places that are explained at once."""

MAX_WAITING = 20
"""Waiting detections that are listed of a place."""


COVERED = Reason("expected", "An expectation covers it here.")


class Lacking(Struct, frozen=True):
    """A case that did not come true, and the fewest groups that it lacks."""

    case: str
    severity: str
    groups: tuple[str, ...]


class ContextWhy(Struct, frozen=True):
    """An execution context: groups that count, groups seen too long ago, and what each case lacks.

    `incident` is the id of its incident, "" if it has none.
    """

    rule: str
    anchor: str
    groups: tuple[str, ...]
    expired: tuple[str, ...]
    incident: str
    lacking: tuple[Lacking, ...]


class WaitingWhy(Struct, frozen=True):
    """Detections of one kind in no context: how many, the newest one's command, and which context they would join."""

    rule: str
    falco_rule: str
    groups: tuple[str, ...]
    count: int
    command: str
    joins: str


class DeclinedWhy(Struct, frozen=True):
    """Detections of one behaviour that mean nothing here: how many, why, and their command.

    `question` is the one of the five that decided it.
    """

    falco_rule: str
    reason: str
    question: str
    meaning: str
    count: int
    command: str


class Why(Struct, frozen=True):
    """What is remembered of a place, and why it led to no incident, or to none that is worse."""

    place: str
    contexts: tuple[ContextWhy, ...]
    waiting: tuple[WaitingWhy, ...]
    declined: tuple[DeclinedWhy, ...]


class Places(Struct, frozen=True):
    """The places that a name stands for."""

    places: tuple[Why, ...]


def explain(pipeline: Pipeline, name: str) -> Places:
    """Why, for each place of a name: a pod (`namespace/pod` too), a container's name or id, or a host."""
    found = [container for container in pipeline.containers if _is_meant(container, name)]
    return Places(tuple(_why(pipeline, container) for container in found[:MAX_PLACES]))


def without_incident(pipeline: Pipeline) -> Places:
    """Why, for each place with detections of which no incident came."""
    silent = [_why(pipeline, container) for container in pipeline.containers if not _has_incident(container)]
    return Places(tuple([each for each in silent if each.contexts or each.waiting or each.declined][:MAX_PLACES]))


def lines(why: Why) -> Iterator[str]:
    """An explanation for a terminal."""
    yield f"{why.place}:"
    for context in why.contexts:
        outcome = f"incident {context.incident}" if context.incident else "no incident"
        groups = ", ".join(context.groups) or "nothing that counts"
        yield f"  below {context.anchor}: {groups} ({outcome}, {context.rule})"
        if context.expired:
            yield f"    too old to count: {', '.join(context.expired)}"
        for lacking in context.lacking:
            yield f"    {lacking.case} ({lacking.severity}) lacks {', '.join(lacking.groups)}"
    for waiting in why.waiting:
        groups = ", ".join(waiting.groups)
        yield f"  in no context, {waiting.count} x {waiting.falco_rule} ({groups}): {waiting.command}"
        yield f"    {waiting.joins}"
    for declined in why.declined:
        yield f"  declined, {declined.count} x {declined.falco_rule}: {declined.command}"
        yield f"    {declined.reason} (question: {declined.question}): {declined.meaning}"


def _is_meant(container: Container, name: str) -> bool:
    where = container.where
    if container.is_host:
        return name in (where.host, "host")
    names = (where.pod, f"{where.namespace}/{where.pod}", where.container_name, where.container)
    return bool(name) and (name in names or (len(name) >= 4 and where.container.startswith(name)))


def _has_incident(container: Container) -> bool:
    return any(context.incident is not None for context in (*container.contexts.values(), *container.coarse.values()))


def _why(pipeline: Pipeline, container: Container) -> Why:
    contexts = [(rule, context) for (rule, _), context in container.contexts.items()]
    contexts += [*container.coarse.items()]
    declined = pipeline.declined_detections(container)
    return Why(
        place=escape.terminal(place(container.where)),
        contexts=tuple(_context(pipeline.rules[rule], context) for rule, context in contexts),
        waiting=tuple(_waiting(pipeline, container))[:MAX_WAITING],
        declined=tuple(map(_declined, declined)),
    )


def _context(rule: CorrelationRule, context: Context) -> ContextWhy:
    counting = context.groups_within_window(rule)
    seen = sum(1 << bit for bit in context.spans)
    incident = context.incident
    return ContextWhy(
        rule=rule.id,
        anchor=escape.terminal(f"{context.name} ({context.anchor})") if context.anchor else "the whole container",
        groups=rule.named(counting),
        expired=rule.named(seen & ~counting),
        incident=incident.id if incident is not None else "",
        lacking=tuple(_lacking(rule, counting, incident.case if incident is not None else len(rule.cases))),
    )


def _lacking(rule: CorrelationRule, counting: int, reached: int) -> Iterator[Lacking]:
    """For each case above the one that was reached, the fewest groups that would make it true."""
    for index, case in enumerate(rule.cases[:reached]):
        masks = [
            mask & ~counting for mask, row in enumerate(rule.outcomes) if row == index and mask & counting == counting
        ]
        fewest = min(masks, key=int.bit_count, default=0)
        if fewest:
            yield Lacking(case.name, case.severity, rule.needs(fewest))


def _waiting(pipeline: Pipeline, container: Container) -> Iterator[WaitingWhy]:
    kinds: dict[tuple[int, int, int], list[PendingDetection]] = {}
    for pending in container.pending:
        kinds.setdefault((pending.rule, pending.groups, pending.fingerprint), []).append(pending)
    for (index, groups, _), same in kinds.items():
        rule, newest = pipeline.rules[index], same[-1]
        alert = newest.alert
        path = container.path(newest.pid, newest.start)
        yield WaitingWhy(
            rule=rule.id,
            falco_rule=escape.terminal(alert.rule),
            groups=rule.named(groups),
            count=len(same),
            command=escape.terminal(alert.fields.cmdline or alert.fields.name or ""),
            joins=_joins(pipeline, container, index, path, newest.time),
        )


def _joins(pipeline: Pipeline, container: Container, index: int, path: Sequence[Process], time: int) -> str:
    """Which context a waiting detection would join."""
    rule = pipeline.rules[index]
    anchoring = " or ".join(rule.named(rule.anchoring))
    others = [escape.terminal(f"{context.name} ({context.anchor})") for context in container.contexts_of(index)]
    not_below = f"; it is not below {', '.join(others)}, where a context is" if others else ""
    at, reason = service_above(container, path, pipeline.servers, time) if len(path) > 1 else (0, "no_service")
    if not at:
        return f"it would join none: {REASONS[reason].meaning}{not_below}"
    service = escape.terminal(f"{path[at].name} ({path[at].pid})")
    return f"it would join the context of {service} as soon as {anchoring} is seen below that{not_below}"


def _declined(declined: DeclinedDetection) -> DeclinedWhy:
    why = REASONS.get(declined.reason, COVERED)
    return DeclinedWhy(
        escape.terminal(declined.rule),
        declined.reason,
        why.question,
        why.meaning,
        declined.count,
        escape.terminal(declined.command),
    )
