"""The way of an alert: bytes in, notifications out. No I/O, no waiting, no logging; clocks are parameters."""

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b

from msgspec.structs import replace

from sidecar.aging_dict import AgingDict
from sidecar.alerts import decode
from sidecar.alerts.canary import Canary
from sidecar.alerts.classify import NOTHING, Classifier, Verdict
from sidecar.alerts.decode import Envelope
from sidecar.alerts.stock_alerts import Event, Groups, StockAlerts
from sidecar.alerts.truncate import mask_and_truncate, truncate
from sidecar.alerts.verdict_cache import ORDINARY, VerdictCache
from sidecar.correlation.correlator import Correlator
from sidecar.correlation.memory.container import Container
from sidecar.correlation.memory.containers import Containers
from sidecar.correlation.placement import DeclinedDetection, Placement
from sidecar.errors import AlertError
from sidecar.expectations.entries import Expectations
from sidecar.meaning.command_summary import summarise_commands
from sidecar.model import MAX_NAME_CHARS, Alert, Message
from sidecar.rules.change import successors
from sidecar.rules.rule import CorrelationRule
from sidecar.text.redaction.redactor import Redactor

MAX_IDS = 16_384
"""Ids of alerts that are kept to recognise duplicates."""

MAX_FUTURE = 120 * 1_000_000_000
"""Nanoseconds by which an event time may be ahead of our own clock."""

MAX_HOSTS_WITH_DROPS = 1_000

EVENTS_DROPPED = "Falco internal: syscall event drop"


class Pipeline:
    """Decode, classify, place, correlate.

    `timer` is a monotonic clock in seconds; it decides when memory expires. `wall` is the time of day in nanoseconds,
    used only to clamp event times in the future; leave it out where the time is that of a recording, as in a replay.
    `remember` is called with every relevant alert and its event id before it is correlated. `redact` masks the secrets
    in what is kept. `expectations` say what is normal where.
    """

    def __init__(
        self,
        rules: Sequence[CorrelationRule],
        timer: Callable[[], float],
        wall: Callable[[], int] | None = None,
        remember: Callable[[bytes, Alert], None] | None = None,
        redact: Redactor | None = None,
        expectations: Expectations | None = None,
    ) -> None:
        ttl = _time_to_live(rules)
        self.rules = rules
        self.containers = Containers(ttl, timer, max(rule.window for rule in rules))
        self.correlator = Correlator(rules)
        self.received = 0
        self.detections = 0
        self.reasons: Counter[str] = Counter()
        self.falco_events: Counter[str] = Counter()
        """Falco's alerts about itself: `drops` of events; all others (its metrics snapshots) are `heartbeats`."""
        self.hosts_with_drops: set[str] = set()
        """Hosts whose Falco dropped events since the caller last cleared this."""
        self.canary: Canary | None = None
        """Is given the alerts that our marker process causes."""
        self._classifier = Classifier(rules)
        self._stock = StockAlerts()
        self._verdicts = VerdictCache()
        self._placement = Placement(rules, self.containers, expectations)
        self.servers = self._placement.servers
        self._ids: AgingDict[bytes | int, bool] = AgingDict(MAX_IDS, ttl, timer)
        self._wall = wall
        self._remember = remember
        self._redact = redact or Redactor()

    def report_declined(self, report: Callable[[Alert, str], None]) -> None:
        """Call `report` with every alert of which a group falls away, and the reason."""
        self._placement.on_declined = report

    def use(self, rules: Sequence[CorrelationRule], expectations: Expectations | None = None) -> list[Message]:
        """Judge by other correlation rules and expectations from now on; contexts of rules that stay are kept.

        Returns:
            The messages that were waiting, which are due before the change.
        """
        due = self.flush()
        became = successors(self.rules, rules)
        for container in self.containers:
            container.translate(became)
            self.containers.recount(container)
        self.correlator.use(rules, became)
        ttl = _time_to_live(rules)
        self.containers.keep_for(ttl, max(rule.window for rule in rules))
        self._ids.keep_for(ttl)
        self.rules = rules
        self._classifier = Classifier(rules)
        self._verdicts = VerdictCache()
        self._placement.use(rules, expectations)
        return due

    def declined_detections(self, container: Container) -> list[DeclinedDetection]:
        """What was declined in a container lately, by kind."""
        return self._placement.declined_in(container)

    def mask_by(self, redact: Redactor) -> None:
        """Mask secrets by another redactor from now on."""
        self._redact = redact

    @property
    def declined(self) -> Counter[str]:
        """Alerts of which a group fell away, by the reason."""
        return self._placement.declined

    @property
    def expected(self) -> Counter[str]:
        """Detections that are expected, by the id of the entry."""
        return self._placement.expected

    @property
    def expectation_ids(self) -> Sequence[str]:
        """The ids of the entries that are in force."""
        return self._placement.expectation_ids

    @property
    def is_waiting(self) -> bool:
        """Whether anything waits for its event to be complete, and so for `flush`."""
        return bool(self.correlator.pending or self._stock.held)

    def process_json(self, body: bytes) -> tuple[Verdict, list[Message]]:
        """Process one JSON alert. Never raises: what is wrong with it is counted in `reasons`.

        Returns:
            What the alert means to us, and the messages that are due.
        """
        cached = self._verdicts.lookup(body)
        if cached is ORDINARY and not self.correlator.pending and not self._stock.held:
            self.received += 1
            return NOTHING, []
        if cached is not None and cached is not ORDINARY:
            alert = decode.alert(body, cached.rule, cached.tags)
            if alert is not None:
                self.received += 1
                return cached.verdict, self._observe(alert, cached.verdict)
        return self._process_uncached(body)

    def _process_uncached(self, body: bytes) -> tuple[Verdict, list[Message]]:
        try:
            envelope = decode.envelope(body)
            verdict, due = self.process(envelope)
        except AlertError as error:
            self.reject(error.reason)
            return NOTHING, []
        except UnicodeDecodeError:
            self.reasons["bad_utf8"] += 1
            return self._process_uncached(decode.replace_bad_utf8(body))
        self._verdicts.store(body, envelope, verdict)
        return verdict, due

    def process(self, envelope: Envelope) -> tuple[Verdict, list[Message]]:
        """Process one alert whose envelope is decoded.

        Returns:
            What the alert means to us, and the messages that are due.

        Raises:
            UnicodeDecodeError: nothing was changed; replace the bad bytes and try again.
        """
        verdict = NOTHING
        alert = None
        try:
            envelope.check()
            verdict = self._classifier(envelope)
            if verdict.relevant:
                alert = self._decoded(envelope)
            elif verdict is not NOTHING:
                self._record_own_alert(envelope, verdict)
        except AlertError as error:
            self.reasons[error.reason] += 1
            if error.reason == "internal":
                self._record_falco_event(envelope)
        self.received += 1
        if anomalies := envelope.anomalies():
            verdict = self._apply_anomalies(verdict, anomalies)
        if alert is not None:
            return verdict, self._observe(alert, verdict)
        if self.is_waiting:
            return verdict, self._complete((envelope.host, envelope.time))
        return verdict, []

    def restore(self, event_id: bytes, alert: Alert) -> list[Message]:
        """Process again an alert that was remembered under `event_id` before a restart."""
        self._ids[event_id] = True
        decode.apply_fallbacks(alert.fields)
        verdict = self._classifier.classify(alert.rule, alert.tags)
        return self._correlate(alert, verdict, (alert.host, alert.time, alert.fields.pid))

    def mark_restored(self, absences: Sequence[tuple[int, int]]) -> None:
        """Note that what was remembered is restored, and when (ns) this service was away and saw nobody listen."""
        for begin, end in absences:
            self.servers.absent(begin, end)

    def reject(self, reason: str) -> None:
        """Count an alert that could not be decoded at all."""
        self.received += 1
        self.reasons[reason] += 1

    def flush(self) -> list[Message]:
        """What waits for its event to be complete; to be called when no alert came for a moment."""
        return self._complete(())

    def _decoded(self, envelope: Envelope) -> Alert:
        alert = truncate(envelope.alert())
        if type(alert.fields) is decode.PartialFields:
            self.reasons["bad_field"] += 1
        return alert

    def _apply_anomalies(self, verdict: Verdict, anomalies: Sequence[str]) -> Verdict:
        if not verdict.own_alert_reason:
            self.reasons.update(anomalies)
        return replace(verdict, via_falcosidekick=True) if "via_falcosidekick" in anomalies else verdict

    def _record_own_alert(self, envelope: Envelope, verdict: Verdict) -> None:
        """Count an alert of our own: an incident that came back, or one about our marker process."""
        if verdict.own_alert_reason:
            self.reasons[verdict.own_alert_reason] += 1
        if verdict.is_canary and self.canary is not None:
            self.canary.record_alert(envelope.rule, envelope.alert().fields.cmdline or "")

    def _record_falco_event(self, envelope: Envelope) -> None:
        """Count an alert of Falco about itself: a sign of life, or dropped events."""
        if envelope.rule != EVENTS_DROPPED:
            self.falco_events["heartbeats"] += 1
            return
        self.falco_events["drops"] += 1
        host = envelope.host[:MAX_NAME_CHARS]
        self.correlator.record_drop(host)
        self.servers.doubt(host, envelope.time)
        if len(self.hosts_with_drops) < MAX_HOSTS_WITH_DROPS:
            self.hosts_with_drops.add(host)

    def _observe(self, alert: Alert, verdict: Verdict) -> list[Message]:
        event = alert.host, alert.time, alert.fields.pid
        try:
            alert = self._deduplicated(alert)
        except AlertError as error:
            self.reasons[error.reason] += 1
            return self._complete(event[:2])
        return self._correlate(alert, verdict, event)

    def _deduplicated(self, alert: Alert) -> Alert:
        """The alert as it is kept: masked, its time clamped, and remembered.

        Raises:
            AlertError: `duplicate`, it was processed before; `no_process`, it names none.
        """
        fields = alert.fields
        if not fields.pid:
            raise AlertError("no_process")
        event_id: bytes | int
        if self._remember is None:
            identity = alert.host, fields.container_id, alert.time, alert.rule, fields.pid, fields.cmdline, fields.file
            event_id = hash(identity)
        else:
            event_id = _digest(alert)
        if not self._ids.add(event_id, True):
            raise AlertError("duplicate")
        if fields.pcmdline or fields.acmdline2:
            summarise_commands(fields)
        mask_and_truncate(fields, self._redact)
        if self._wall is not None and alert.time > self._wall() + MAX_FUTURE:
            self.reasons["future_time"] += 1
            alert = replace(alert, time=self._wall())
        if self._remember is not None and isinstance(event_id, bytes):
            self._remember(event_id, alert)
        return alert

    def _correlate(self, alert: Alert, verdict: Verdict, event: Event) -> list[Message]:
        if verdict.groups or verdict.fallback_groups:
            self.detections += 1
        due = self._place_held(event) if self._stock.held else []
        if verdict.fallback_groups:
            self._stock.hold(event, alert, verdict)
            return due
        if verdict.is_own_detection:
            self._stock.decide(event, verdict.groups)
        return [*due, *self._place(alert, (*verdict.groups, *verdict.teaches), event)]

    def _complete(self, event: Event) -> list[Message]:
        """What waits for its event to be complete, unless `event` is that one; () stands for none."""
        return [*self._place_held(event), *self.correlator.flush(event)]

    def _place_held(self, event: Event) -> list[Message]:
        """Place the stock alerts that wait for their event to be complete, unless `event` is that one."""
        held_event = self._stock.event
        due: list[Message] = []
        for alert, groups in self._stock.release_unless(event):
            due += self._place(alert, groups, held_event)
        return due

    def _place(self, alert: Alert, groups: Groups, event: Event) -> list[Message]:
        placed, reports = self._placement.place(alert, groups)
        due = self.correlator.observe(placed, event) if placed or self.correlator.pending else []
        return [*due, *reports]


def _time_to_live(rules: Sequence[CorrelationRule]) -> float:
    """How long an unused container is remembered, in seconds: as long as its evidence can count."""
    return max(rule.idle_timeout + rule.window for rule in rules) / 1e9


def _digest(alert: Alert) -> bytes:
    """The event id: the same for the same event and Falco rule on every transport, and after a restart."""
    fields = alert.fields
    identity = (alert.host, alert.container, alert.time, alert.rule, fields.pid, fields.cmdline, fields.file)
    return blake2b("|".join(map(str, identity)).encode("utf-8", "replace"), digest_size=12).digest()
