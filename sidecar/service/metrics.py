"""The metrics of the service in the format of Prometheus.

Alerts are counted in plain integers, which this module translates at each scrape. Every label value comes
from a fixed set (reasons, severities, outcomes, configured sinks), so nothing an attacker writes can create a series.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from sidecar import __version__
from sidecar.meaning.declined import REASONS
from sidecar.model import ANOMALIES, RANK, REJECTIONS

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

    from sidecar.admin.reload import Reloader
    from sidecar.correlation.pipeline import Pipeline
    from sidecar.delivery.outbox import Outbox
    from sidecar.delivery.pass_through import PassThroughQueue
    from sidecar.delivery.sink_queue import Delivery
    from sidecar.service.health import Health
    from sidecar.settings.schema import Settings
    from sidecar.sinks.grpc.server import GrpcServer
    from sidecar.sinks.grpc.subscribers import Subscribers
    from sidecar.sources.grpc import GrpcPoller
    from sidecar.sources.http import HttpListener
    from sidecar.sources.journal import JournalTail

PREFIX = "falco_correlator_"

STARTED = time.time()

STATE_KINDS = ("alerts", "notifications", "incidents")
SINK_OUTCOMES = ("sent", "failed", "refused", "dropped", "broken")
PASS_THROUGH_OUTCOMES = ("sent", "withheld", "rejected", "failed", "dropped", "broken")
GRPC_OUTCOMES = (
    ("incident", "sent"),
    ("incident", "dropped"),
    ("alert", "sent"),
    ("alert", "dropped"),
    ("alert", "unreadable"),
)
GRPC_REFUSALS = ("name", "loop", "full")

Values = Mapping[tuple[str, ...], float]


class Metric(NamedTuple):
    """One metric: its kind, its name without prefix and `_total`, its help text, its labels, and its values.

    The keys of `values` are label values in the order of `labels`, () where there are none.
    """

    kind: Literal["counter", "gauge"]
    name: str
    help: str
    labels: tuple[str, ...]
    values: Values


def _counter(name: str, text: str, values: float | Mapping[Any, float], *labels: str) -> Metric:
    return Metric("counter", name, text, labels, _by_labels(values))


def _gauge(name: str, text: str, values: float | Mapping[Any, float], *labels: str) -> Metric:
    return Metric("gauge", name, text, labels, _by_labels(values))


def _by_labels(values: float | Mapping[Any, float]) -> Values:
    if not isinstance(values, Mapping):
        return {(): float(values)}
    return {key if isinstance(key, tuple) else (key,): float(value) for key, value in values.items()}


class Measured(Protocol):
    """What the metrics read of a service. Parts that the settings leave out are None."""

    @property
    def settings(self) -> "Settings": ...
    @property
    def received(self) -> Mapping[str, int]: ...
    @property
    def notified(self) -> Mapping[str, int]: ...
    @property
    def pipeline(self) -> "Pipeline": ...
    @property
    def deliveries(self) -> "Sequence[Delivery]": ...
    @property
    def outbox(self) -> "Outbox": ...
    @property
    def http(self) -> "HttpListener | None": ...
    @property
    def grpc(self) -> "GrpcPoller | None": ...
    @property
    def subscribers(self) -> "Subscribers | None": ...
    @property
    def server(self) -> "GrpcServer | None": ...
    @property
    def pass_through(self) -> "PassThroughQueue | None": ...
    @property
    def health(self) -> "Health | None": ...
    @property
    def journal(self) -> "JournalTail | None": ...
    @property
    def reloader(self) -> "Reloader": ...
    @property
    def folded(self) -> int: ...


def exposition(service: "Measured") -> bytes:
    """All metrics in Prometheus' text format."""
    # Imported at the first scrape: a service that nobody scrapes does not pay for its memory.
    from prometheus_client.exposition import generate_latest  # noqa: PLC0415
    from prometheus_client.registry import CollectorRegistry  # noqa: PLC0415

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(service))
    return generate_latest(registry)


class _Collector:
    def __init__(self, service: "Measured") -> None:
        self._service = service

    def collect(self) -> "Iterator[Family]":
        from prometheus_client.core import (  # noqa: PLC0415
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        kinds: dict[str, Any] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
        for metric in metrics(self._service):
            family = kinds[metric.kind](PREFIX + metric.name, metric.help, labels=metric.labels)
            for label_values, value in metric.values.items():
                family.add_metric(label_values, value)
            yield family
        if self._service.http is not None:
            latency = self._service.http.latency
            text = "How long Falco waited for the response to each alert over HTTP."
            name = PREFIX + "http_alert_duration_seconds"
            yield HistogramMetricFamily(name, text, buckets=latency.buckets(), sum_value=latency.total)


def metrics(service: "Measured") -> Iterator[Metric]:
    """Every metric but the histogram, counters first."""
    found = [
        *_alerts(service),
        *_sources(service),
        *_memory(service),
        *_sinks(service),
        *_pass_through(service),
        *_health(service),
    ]
    yield from (metric for metric in found if metric.kind == "counter")
    yield from (metric for metric in found if metric.kind == "gauge")


def _alerts(service: "Measured") -> Iterator[Metric]:
    pipeline = service.pipeline
    # Zero where none has come yet: only a series that exists can be found silent.
    received = dict.fromkeys(service.settings.sources(), 0) | {**service.received}
    rejected = {reason: pipeline.reasons[reason] for reason in REJECTIONS}
    anomalous = {reason: pipeline.reasons[reason] for reason in ANOMALIES}
    declined = {(why.question, reason): pipeline.declined[reason] for reason, why in REASONS.items()}
    internal = {"heartbeat": pipeline.falco_events["heartbeats"], "drop": pipeline.falco_events["drops"]}
    severities = {severity: service.notified[severity] for severity in RANK}
    yield _counter("alerts_received", "Alerts received, by source.", received, "source")
    yield _counter("alerts_rejected", "Alerts that were not correlated, by reason.", rejected, "reason")
    yield _counter("alerts_anomalous", "Alerts correlated in spite of an anomaly, by reason.", anomalous, "reason")
    yield _counter(
        "falco_internal_events", "Falco's internal alerts: heartbeats and dropped-event notices.", internal, "type"
    )
    yield _counter("detections", "Alerts that a correlation rule uses as evidence.", pipeline.detections)
    expected = {entry: pipeline.expected[entry] for entry in pipeline.expectation_ids}
    yield _counter("expectation_matches", "Detections that an expectation covers, by its id.", expected, "entry")
    yield _counter(
        "detections_declined",
        "Detections of which a group of evidence fell away, by the question that decided it and the reason.",
        declined,
        "question",
        "reason",
    )
    yield _counter("incidents_opened", "Incidents opened.", pipeline.correlator.opened)
    yield _counter("notifications", "Notifications decided, by severity.", severities, "severity")


def _sources(service: "Measured") -> Iterator[Metric]:
    if service.http is not None:
        connections = service.http.connections
        yield _counter("http_refused", "Requests and TLS handshakes refused, by status.", connections.refused, "status")
        yield _counter(
            "http_connections_evicted", "Idle connections closed to make room for new ones.", connections.evicted
        )
        yield _gauge("http_connections", "Open connections on the port for alerts.", len(connections))
    if service.journal is not None:
        journal = service.journal.journal
        gaps = {"line": journal.skipped, "file": journal.lost_files}
        yield _counter("journal_gaps", "Lines too long for an alert, and files that could not be read.", gaps, "kind")
    if service.grpc is not None:
        yield _gauge("grpc_connected", "1 while Falco answers over gRPC.", service.grpc.connected)


def _memory(service: "Measured") -> Iterator[Metric]:
    containers = service.pipeline.containers
    evictions = {name: budget.evicted for name, budget in containers.budgets.items()}
    used = {name: budget.used / budget.capacity for name, budget in containers.budgets.items()}
    yield _counter(
        "contexts_merged", "Execution contexts merged into their container's wide one under pressure.", service.folded
    )
    yield _counter(
        "evictions", "Items given up because all containers together exceeded a budget.", evictions, "resource"
    )
    yield _counter(
        "values_evicted",
        "Values given up that conditions count or compare.",
        service.pipeline.correlator.values_evicted,
    )
    yield _counter("containers_evicted", "Containers evicted under pressure.", containers.evicted)
    yield _gauge("budget_used_ratio", "Used share of each budget for all containers together.", used, "resource")
    yield _gauge("containers", "Containers with remembered detections.", len(containers))


def _sinks(service: "Measured") -> Iterator[Metric]:
    deliveries = service.deliveries
    outcomes = {(each.sink.name, outcome): each.counts[outcome] for each in deliveries for outcome in SINK_OUTCOMES}
    pending = {each.sink.name: each.pending for each in deliveries}
    oldest = {each.sink.name: each.oldest for each in deliveries}
    yield _counter("sink_notifications", "Notifications, by sink and outcome.", outcomes, "sink", "outcome")
    summarized = service.outbox.quota.left_out
    yield _counter("incidents_summarized", "Incidents that were only counted in a digest.", summarized)
    yield _gauge("sink_pending", "Notifications that a sink has not accepted yet.", pending, "sink")
    yield _gauge("sink_oldest_seconds", "Age of the oldest notification waiting for its sink.", oldest, "sink")
    if service.subscribers is not None:
        messages = {pair: service.subscribers.counts[pair] for pair in GRPC_OUTCOMES}
        refused = service.server.refused if service.server is not None else {}
        refusals = {reason: refused.get(reason, 0) for reason in GRPC_REFUSALS}
        yield _counter(
            "grpc_messages", "Messages to gRPC subscribers, by kind and outcome.", messages, "kind", "outcome"
        )
        yield _counter("grpc_refused", "gRPC subscribers refused, by reason.", refusals, "reason")
        yield _gauge("grpc_subscribers", "Open streams of gRPC subscribers.", len(service.subscribers))


def _pass_through(service: "Measured") -> Iterator[Metric]:
    queue = service.pass_through
    if queue is None:
        return
    outcomes = {outcome: queue.counts[outcome] for outcome in PASS_THROUGH_OUTCOMES}
    yield _counter("pass_through_alerts", "Raw alerts passed through, by outcome.", outcomes, "outcome")
    yield _gauge("pass_through_pending", "Raw alerts in the queue.", queue.pending)
    yield _gauge("pass_through_oldest_seconds", "Age of the oldest raw alert in the queue.", queue.oldest)


def _health(service: "Measured") -> Iterator[Metric]:
    causes = {}
    if service.health is not None:
        causes["canary"] = bool(service.health.degraded)
    if service.http is not None:
        causes["refused_senders"] = bool(service.http.degraded)
    yield _gauge(
        "degraded", "1 if the path from Falco is degraded, by cause; see the log for details.", causes, "cause"
    )
    usage = {kind: service.outbox.usage.get(kind, 0.0) for kind in STATE_KINDS}
    yield _gauge("state_used_ratio", "Used share of each budget of the state file.", usage, "kind")
    lost = service.outbox.lost_alerts
    yield _counter("state_alerts_lost", "Alerts that could not be written to the state file in time.", lost)
    yield _gauge("state_file_unavailable", "1 while the state file cannot be used.", bool(service.outbox.trouble))
    yield from _configuration(service.reloader)
    yield _gauge("build_info", "Always 1.", {__version__: 1}, "version")
    yield _gauge("resident_memory_bytes", "Resident memory of the worker process.", _resident())
    yield _gauge("start_time_seconds", "Start time of the worker process, in seconds since 1970.", STARTED)


def _configuration(reloader: "Reloader") -> Iterator[Metric]:
    in_force = reloader.in_force
    results = {result: reloader.counts[result] for result in ("success", "failure")}
    yield _counter("config_reloads", "Changes of rules and settings taken up or refused, by result.", results, "result")
    yield _gauge(
        "config_refused", "1 while the newest change is refused, and the old one in force.", bool(in_force.refused)
    )
    waiting = len(in_force.needs_restart)
    yield _gauge("config_needs_restart", "Changed settings that wait for a restart.", waiting)
    rules = {(rule.id, rule.version): 1 for rule in in_force.rules}
    yield _gauge(
        "rule_info", "Always 1: the correlation rules in force, each with its version.", rules, "rule", "version"
    )


def _resident() -> float:
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return float(pages) * os.sysconf("SC_PAGE_SIZE")
