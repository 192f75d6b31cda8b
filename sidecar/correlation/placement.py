"""Which context a detection belongs to: the rules that tell an attack from an administrator.

A container is too wide (an administrator's `kubectl exec` would mix with the application's work), and a session id
alone is wrong both ways (setsid splits it, cron siblings share it). So contexts are anchored to a **service root**, the
outermost service process above the web-shell detection, and a detection joins

1. by *ancestry*: the Falco plugin saw its process descend from the root; or by *lineage*: the root is among its
   process's remembered ancestors. The service's own doing is excluded (an SDK in php-fpm that reads its own token is
   not a theft); whatever was started below the service is included;
2. by *session*: its process is an orphan (its parent is init, the container's first process, or unknown) whose session
   belongs to the context;
3. as an *orphan* of an unknown session, inside a container only, if it started after the context's first shell. A
   process that entered from outside never joins: its ancestors lead to the container runtime, not to the first process.

Where the plugin saw the fork of a process, its parent is certain: neither session nor orphan is considered.

Detections that belong nowhere wait in their container: the web shell that explains them may arrive later.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from sidecar.alerts.traits import TRAITS
from sidecar.correlation import judgement
from sidecar.correlation.anchors import anchored, coarse, is_started_by_system_manager
from sidecar.correlation.judgement import Judgement, Trait
from sidecar.correlation.membership import descent, is_foreign_job, join
from sidecar.correlation.memory.container import Container
from sidecar.correlation.memory.containers import Containers
from sidecar.correlation.memory.context import JOB_SUBMITTERS, MAX_SESSIONS, Context
from sidecar.correlation.memory.lineage import MAX_DEPTH
from sidecar.correlation.memory.pending import fingerprint
from sidecar.correlation.memory.process import Process
from sidecar.correlation.memory.servers import SERVING_TAG, Servers
from sidecar.correlation.orphans import Joined
from sidecar.correlation.serving import outermost_of_kind, service_above
from sidecar.expectations.entries import Expectations, Seen
from sidecar.model import MAX_COMMAND_CHARS, Alert, Detection, Join, Report
from sidecar.rules.rule import CorrelationRule

MAX_DECLINED_PLACES = 250
"""Containers of which it is noted what was declined."""

MAX_DECLINED = 16
"""Kinds of declined alerts that are noted of one container."""

MAX_DECLINED_CHARS = 160
"""Characters of their command."""


class PlacedDetection(Struct, frozen=True):
    """A detection and the context that it joined; `rule` is the index of the correlation rule."""

    rule: int
    container: Container
    context: Context
    detection: Detection
    alert: Alert
    shell: Process | None = None
    """The outermost process that anchored the context, among its ancestors or itself."""


EXPECTED = "expected: "
"""Before the id of an expectation: the reason of what is noted as expected."""


class DeclinedDetection(Struct, gc=False):
    """Alerts of one behaviour of which a group fell away: the Falco rule, the reason, and how often."""

    rule: str
    reason: str
    command: str
    count: int = 0


class Placement:
    """Puts alerts into the contexts of the correlation rules that care about them."""

    def __init__(
        self, rules: Sequence[CorrelationRule], containers: Containers, expectations: Expectations | None = None
    ) -> None:
        self.declined: Counter[str] = Counter()
        """Alerts of which a group fell away, by the reason: a key of `sidecar.meaning.declined.REASONS`."""
        self.expected: Counter[str] = Counter()
        """Detections that are expected, by the id of the entry."""
        self._recent: OrderedDict[tuple[str, str], dict[tuple[str, str, int], DeclinedDetection]] = OrderedDict()
        """What was declined, by place; the one that was noted longest ago comes first."""
        self.on_declined: Callable[[Alert, str], None] | None = None
        """Is given each of these alerts with its reason."""
        self._containers = containers
        self.servers = Servers()
        self.use(rules, expectations)

    def use(self, rules: Sequence[CorrelationRule], expectations: Expectations | None) -> None:
        """Place alerts for these correlation rules and expectations from now on."""
        self._expectations = expectations
        self.expectation_ids = [entry.id for entry in expectations.entries] if expectations else []
        self._rules = rules
        self._shell_traits = tuple(
            tuple((TRAITS[trait], bits) for trait, bits in rule.trait_bits if trait in TRAITS) for rule in rules
        )
        self._traits = tuple(map(_traits_by_event, rules))

    def place(
        self, alert: Alert, groups: Sequence[tuple[int, int]]
    ) -> tuple[Sequence[PlacedDetection], Sequence[Report]]:
        """Place an alert in the contexts of all rules, and pending detections that it explains.

        `groups` pairs the index of each correlation rule that cares about it with the mask of groups; the mask is 0 if
        the alert only teaches lineage.

        Returns:
            Every detection that found its context now, and reports of quotas that are nearly used up.
        """
        container = self._containers.get_or_create(alert)
        learned = container.learn(alert.fields, alert.time)
        path = learned.path
        if SERVING_TAG in alert.tags:
            self.servers.record(alert)
        placed: list[PlacedDetection] = []
        explains = learned.is_updated
        judged = Judgement(alert, container, path)
        judged.learn()
        for index, shown_groups in groups:
            mask = self._meant(index, self._with_traits(index, shown_groups, alert, container), judged)
            mask = self._beside_scripts(index, mask, judged, container)
            if mask & self._rules[index].anchoring and not (learned.is_new or path[0].is_shell):
                explains = True
            detection = self._place_new(container, index, mask, judged, path)
            if detection is not None:
                placed.append(detection)
        contexts = container.contexts
        if container.pending.size and (explains or contexts.revision != container.reviewed_revision):
            placed += self._reconsider(container)
        container.reviewed_revision = contexts.revision
        if judged.explains is not None:
            placed += self.place(judged.explains, [(index, 0) for index, _ in groups])[0]
        return placed, self._containers.account(container, alert.time)

    def _with_traits(self, index: int, mask: int, alert: Alert, container: Container) -> int:
        """The groups of an alert with those that its fields show, which count as if a Falco rule had fired."""
        for shows, bits in self._shell_traits[index]:
            if shows(alert.fields, container.init_tty):
                mask |= bits
        return mask

    def _meant(self, index: int, mask: int, judged: Judgement) -> int:
        """The groups of an alert without those that mean nothing here, and with those that its program adds."""
        credentials = mask & self._rules[index].credentials
        if credentials and (reason := judged.declined()):
            mask = 0 if judged.alert.rule in self._rules[index].stock else mask & ~credentials
            self._decline(judged.alert, reason)
        for trait, bits in self._traits[index].get(judged.fields.evt_type, ()):
            if bits & ~mask and trait.may_show(judged.fields) and trait.shows(judged):
                mask |= bits
        return mask

    def _beside_scripts(self, index: int, mask: int, judged: Judgement, container: Container) -> int:
        """The groups of an alert without those that a script of the application causes below a service."""
        rule = self._rules[index]
        own = mask & rule.deeds
        if not own or not rule.below_service:
            return mask
        shell = judged.script_shell()
        if not shell or judged.reaches_for_others():
            return mask
        service, _ = service_above(container, judged.path[shell:], self.servers, judged.alert.time)
        if not service:
            return mask
        if not judged.uses_identity():
            own &= ~rule.credentials
        if own:
            self._decline(judged.alert, "own_script")
        return mask & ~own

    def _decline(self, alert: Alert, reason: str) -> None:
        """Count an alert of which a group falls away, and note it for those who ask why."""
        self.declined[reason] += 1
        self._note(alert, reason)
        if self.on_declined is not None:
            self.on_declined(alert, reason)

    def _note(self, alert: Alert, reason: str) -> None:
        key = alert.host, alert.container
        noted = self._recent.pop(key, None) or {}
        self._recent[key] = noted
        kind = alert.rule, reason, fingerprint(alert)
        if kind not in noted:
            if len(noted) >= MAX_DECLINED:
                del noted[next(iter(noted))]
            command = alert.fields.cmdline or alert.fields.name or ""
            noted[kind] = DeclinedDetection(alert.rule, reason, command[:MAX_DECLINED_CHARS])
        noted[kind].count += 1
        if len(self._recent) > MAX_DECLINED_PLACES:
            self._recent.popitem(last=False)

    def declined_in(self, container: Container) -> list[DeclinedDetection]:
        """What was declined in a container lately, the oldest kind first."""
        return [*self._recent.get((container.where.host, container.where.container), {}).values()]

    def _place_new(
        self, container: Container, index: int, mask: int, judged: Judgement, path: list[Process]
    ) -> PlacedDetection | None:
        """Place an alert that was not placed before, without the groups that mean nothing here."""
        service, alert = 0, judged.alert
        rule = self._rules[index]
        if mask & rule.anchoring and rule.below_service:
            mask, service = self._below_service(container, rule, mask, alert, path)
        elif mask and rule.context_kind:
            service = outermost_of_kind(rule.context_kind, path)
        if mask and self._expectations is not None:
            expected = self._expected(container, index, mask, judged, path)
            if expected:
                mask = 0
                self._show_expected(container, index, alert, path, expected)
        return self._place_one(container, index, mask, alert, path, service)

    def _show_expected(
        self, container: Container, index: int, alert: Alert, path: list[Process], expected: str
    ) -> None:
        """Put a detection that is expected into the timeline of the context that it belongs to, if there is one."""
        joined = self._joined(container, index, 0, alert, path, 0)
        if joined is not None:
            context, how, at = joined
            shown = _detection(alert, 0, how, tuple([(process.pid, process.name) for process in path[: at + 1]]))
            container.timeline_bytes += context.add_expected(replace(shown, expected=expected), alert)

    def _expected(self, container: Container, index: int, mask: int, judged: Judgement, path: list[Process]) -> str:
        """The id of the expectation that covers a detection, "" if none does: what was dropped is never expected."""
        groups = self._rules[index].named(mask)
        seen = Seen(
            container.where,
            groups,
            judged.program,
            judged.fields,
            judged.alert.time,
            lambda: [process.file or process.name for process in path[1:]],
        )
        entry = self._expectations.entry(seen) if self._expectations is not None else None
        if entry is None or judged.program.is_loaded or judged.dropped:
            return ""
        self.expected[entry.id] += 1
        self._note(judged.alert, f"{EXPECTED}{entry.id}")
        return entry.id

    def _below_service(
        self, container: Container, rule: CorrelationRule, mask: int, alert: Alert, path: list[Process]
    ) -> tuple[int, int]:
        """The groups of an anchoring detection that count, and the index in its path of the service above it."""
        if rule.wide or len(path) < 2:
            return mask, 0  # without ancestors the Falco rule alone decides
        service, reason = service_above(container, path, self.servers, alert.time)
        if path[0].is_foreign or is_foreign_job(container, path, alert):
            path[0].is_foreign = True
            service, reason = 0, "adopted"
        stands_alone = alert.rule in rule.standalone or is_started_by_system_manager(container, path)
        if not service and not stands_alone:
            self._decline(alert, reason)
            mask &= ~rule.anchoring
        return mask, service

    def _place_one(
        self, container: Container, index: int, mask: int, alert: Alert, path: list[Process], service: int = 0
    ) -> PlacedDetection | None:
        """Place one alert for one rule; None if it stays pending, or only teaches lineage."""
        rule = self._rules[index]
        joined = self._joined(container, index, mask, alert, path, service)
        if joined is None:
            if mask and not rule.context_kind:
                container.pending.add(index, mask, alert, alert.time - rule.window)
            return None
        context, how, at = joined
        if path and path[0].program in JOB_SUBMITTERS and context.submit_job(alert.time):
            container.contexts.revision += 1
        session = alert.fields.sid or 0
        if session > 0 and session not in context.sessions and len(context.sessions) < MAX_SESSIONS:
            context.sessions.add(session)
            container.contexts.revision += 1
        shown_path = tuple([(process.pid, process.name) for process in path[: at + 1]])
        if not mask:
            path[0].has_left = True
            return None
        shell = next((process for process in reversed(path[: max(at, 1)]) if process.is_shell), None)
        return PlacedDetection(index, container, context, _detection(alert, mask, how, shown_path), alert, shell)

    def _joined(
        self, container: Container, index: int, mask: int, alert: Alert, path: list[Process], service: int
    ) -> Joined | None:
        rule = self._rules[index]
        if rule.wide and not container.is_host:
            return coarse(container, index, alert), "container", MAX_DEPTH
        if mask & rule.anchoring and (service or not rule.context_kind):
            context, at = anchored(container, index, rule, path, alert, service)
            return context, descent(path, at), at
        return join(container, index, rule, path, alert)

    def _reconsider(self, container: Container) -> list[PlacedDetection]:
        """Try the pending detections again, until placing them changes nothing that could place others."""
        placed: list[PlacedDetection] = []
        while True:
            revision = container.contexts.revision
            for pending in container.pending.drain():
                path = container.path(pending.pid, pending.start) or self._learned_again(container, pending.alert)
                detection = self._place_one(container, pending.rule, pending.groups, pending.alert, path)
                if detection is not None:
                    placed.append(detection)
            if container.contexts.revision == revision:
                return placed

    def _learned_again(self, container: Container, alert: Alert) -> list[Process]:
        """The path of a process that was evicted while its detection was pending: the alert still has the ancestors."""
        return container.learn(alert.fields, alert.time).path


def _traits_by_event(rule: CorrelationRule) -> dict[str | None, list[tuple[Trait, int]]]:
    """The traits of a rule with the masks that they count for, by the type of event that can show them."""
    found: dict[str | None, list[tuple[Trait, int]]] = {}
    for name, bits in rule.trait_bits:
        trait = judgement.TRAITS.get(name)
        if trait is not None:
            for event in trait.events:
                found.setdefault(event, []).append((trait, bits))
    return found


def _detection(alert: Alert, mask: int, how: Join, path: tuple[tuple[int, str], ...]) -> Detection:
    fields = alert.fields
    name = fields.name or ""
    cmdline = fields.cmdline or name
    detail = f"{fields.remote_ip}:{fields.remote_port}" if fields.remote_ip else fields.file or ""
    return Detection(
        time=alert.time,
        rule=alert.rule,
        groups=mask,
        join=how,
        path=path or ((fields.pid or 0, name),),
        cmdline=cmdline[:MAX_COMMAND_CHARS],
        detail=detail[:MAX_COMMAND_CHARS],
        numbers=(fields.vpid or 0, fields.start or 0, fields.pvpid or 0, fields.parent_start or 0),
    )
