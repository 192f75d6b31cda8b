"""The straight line: bytes of an alert in, notifications out. No I/O, no waiting, no logging; clocks are parameters."""

from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b

from msgspec.structs import replace

from sidecar.aging_dict import Generations
from sidecar.alerts import decode
from sidecar.alerts.canary import Canary
from sidecar.alerts.classify import NOTHING, Classifier, Verdict
from sidecar.alerts.decode import Envelope
from sidecar.alerts.stock_overlap import Overlap
from sidecar.alerts.truncate import cut, mask_and_cut
from sidecar.alerts.verdict_cache import ORDINARY, Endings
from sidecar.correlation.correlator import Correlator
from sidecar.correlation.memory.containers import Containers
from sidecar.correlation.placement import Placement
from sidecar.errors import AlertError
from sidecar.model import Alert, Message
from sidecar.rules.rule import CorrelationRule
from sidecar.text.redaction.redactor import Redactor

REMEMBERED_IDS = 16_384
TOLERATED_FUTURE = 120 * 1_000_000_000
"""Ahead of our own clock (ns) an event time is still believed."""

EVENTS_DROPPED = "Falco internal: syscall event drop"


class Pipeline:
    """Decode, classify, place, correlate.

    `timer` is a monotonic clock in seconds and decides when memory expires; `wall` is the time of day in nanoseconds
    and only unmasks event times of the future (leave it out where time is the recording's, as in a replay). `remember`
    is given every relevant alert with its event id before it is correlated. `redact` masks the secrets in what is kept.
    """

    def __init__(
        self,
        rules: Sequence[CorrelationRule],
        timer: Callable[[], float],
        wall: Callable[[], int] | None = None,
        remember: Callable[[bytes, Alert], None] | None = None,
        redact: Redactor | None = None,
    ) -> None:
        ttl = max(rule.quiet + rule.window for rule in rules) / 1e9
        self.rules = rules
        self.containers = Containers(ttl, timer, max(rule.window for rule in rules))
        self.correlator = Correlator(rules)
        self.received = 0
        self.detections = 0
        self.reasons: Counter[str] = Counter()
        self.of_falco: Counter[str] = Counter()
        """What Falco said of itself: `drops` of events, and anything else (its metrics snapshots) as `heartbeats`."""
        self.lost_on: set[str] = set()
        """Hosts of open incidents whose Falco dropped events, until somebody has taken note and cleared it."""
        self.canary: Canary | None = None
        """Told of the alerts that our marker process raises."""
        self._classify = Classifier(rules)
        self._overlap = Overlap(timer)
        self._endings = Endings()
        self._placement = Placement(rules, self.containers)
        self._ids: Generations[bytes | int, bool] = Generations(REMEMBERED_IDS, ttl, timer)
        self._wall = wall
        self._remember = remember
        self._redact = redact or Redactor()

    def feed_json(self, body: bytes) -> tuple[Verdict, list[Message]]:
        """Take one JSON alert. Never raises: what is wrong with it is counted in `reasons`."""
        known = self._endings.look(body)
        if known is ORDINARY and not self.correlator.unsettled:
            self.received += 1
            return NOTHING, []
        alert = None
        if known is not None and known is not ORDINARY:
            alert = decode.alert(body, known.rule, known.tags)
        if known is None or alert is None:
            return self._feed_unknown(body)
        self.received += 1
        return known.verdict, self._take(alert, known.verdict)

    def _feed_unknown(self, body: bytes) -> tuple[Verdict, list[Message]]:
        try:
            envelope = decode.envelope(body)
            verdict, due = self.feed(envelope)
        except AlertError as error:
            self.refuse(error.reason)
            return NOTHING, []
        except UnicodeDecodeError:
            self.reasons["bad_utf8"] += 1
            return self._feed_unknown(decode.mended(body))
        self._endings.remember(body, envelope, verdict)
        return verdict, due

    def feed(self, envelope: Envelope) -> tuple[Verdict, list[Message]]:
        """Take one alert whose outside is decoded; returns what it means to us and the notifications that are due.

        Raises:
            UnicodeDecodeError: nothing was changed; mend the alert and feed it again.
        """
        verdict, alert = NOTHING, None
        try:
            envelope.check()
            verdict = self._classify(envelope)
            if verdict.relevant:
                alert = cut(envelope.alert())
            elif verdict is not NOTHING:
                self._note(envelope, verdict)
        except AlertError as error:
            self.reasons[error.reason] += 1
            if error.reason == "internal":
                self._heed(envelope)
        self.received += 1
        if oddities := envelope.oddities():
            verdict = self._odd(verdict, oddities)
        if alert is not None:
            return verdict, self._take(alert, verdict)
        return verdict, self._settled_by(envelope)

    def _take(self, alert: Alert, verdict: Verdict) -> list[Message]:
        event = alert.host, alert.time, alert.fields.pid
        try:
            alert = self._fresh(alert)
        except AlertError as error:
            self.reasons[error.reason] += 1
            return [*self.correlator.settle(event[:2])]
        return self._correlate(alert, verdict, event)

    def _settled_by(self, envelope: Envelope) -> list[Message]:
        """What waits for its event to be complete does so no longer, unless this alert is of the same."""
        return [*self.correlator.settle((envelope.host, envelope.time))] if self.correlator.unsettled else []

    def restore(self, name: bytes, alert: Alert) -> list[Message]:
        """Play again an alert that was remembered under `name` before a restart."""
        self._ids[name] = True
        verdict = self._classify.judge(alert.rule, alert.tags)
        return self._correlate(alert, verdict, (alert.host, alert.time, alert.fields.pid))

    def _odd(self, verdict: Verdict, oddities: Sequence[str]) -> Verdict:
        if not verdict.oddity:
            self.reasons.update(oddities)
        return replace(verdict, returned=True) if "via_falcosidekick" in oddities else verdict

    def _note(self, envelope: Envelope, verdict: Verdict) -> None:
        """An alert of ours came back: an incident, or that of our marker process."""
        if verdict.oddity:
            self.reasons[verdict.oddity] += 1
        if verdict.canary and self.canary is not None:
            self.canary.came_back(envelope.rule, envelope.alert().fields.cmdline or "")

    def _heed(self, envelope: Envelope) -> None:
        """Falco speaks of itself: it lives, or it dropped events."""
        dropped = envelope.rule == EVENTS_DROPPED
        self.of_falco["drops" if dropped else "heartbeats"] += 1
        if dropped and self.containers.lost_events(envelope.host):
            self.lost_on.add(envelope.host)

    def refuse(self, reason: str) -> None:
        """Count an alert that could not even be opened."""
        self.received += 1
        self.reasons[reason] += 1

    def settle(self) -> list[Message]:
        """The notifications that wait for their event to be complete; call it when no alert came for a moment."""
        return [*self.correlator.settle()]

    def _fresh(self, alert: Alert) -> Alert:
        """The alert as it is kept; AlertError if it is known already, or names no process."""
        fields = alert.fields
        if not fields.pid:
            raise AlertError("no_process")
        name: bytes | int
        if self._remember is None:
            told = (alert.host, fields.container_id, alert.time, alert.rule, fields.pid, fields.cmdline, fields.file)
            name = hash(told)
        else:
            name = _digest(alert)
        if not self._ids.add(name, True):
            raise AlertError("duplicate")
        mask_and_cut(fields, self._redact)
        if self._wall is not None and alert.time > self._wall() + TOLERATED_FUTURE:
            self.reasons["future_time"] += 1
            alert = replace(alert, time=self._wall())
        if self._remember is not None and isinstance(name, bytes):
            self._remember(name, alert)
        return alert

    def _correlate(self, alert: Alert, verdict: Verdict, event: tuple[object, ...]) -> list[Message]:
        groups = self._overlap.counting(verdict, alert)
        if groups:
            self.detections += 1
        placed, reports = self._placement.place(alert, groups)
        due = self.correlator.take(placed, event) if placed or self.correlator.unsettled else []
        return [*due, *reports]


def _digest(alert: Alert) -> bytes:
    """The same (event, rule) has the same name on every transport, and after a restart."""
    fields = alert.fields
    told = (alert.host, alert.container, alert.time, alert.rule, fields.pid, fields.cmdline, fields.file)
    return blake2b("|".join(map(str, told)).encode("utf-8", "replace"), digest_size=12).digest()
