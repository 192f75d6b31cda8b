"""What the service counts, as Prometheus reads it. Counting is plain integers on the hot path; this translates them.

Every label value comes from a fixed set (reasons, severities, outcomes, sinks that are configured): nothing that an
attacker writes can make a new series.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sidecar import __version__
from sidecar.model import RANK, REASONS

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

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

PREFIX = "falco_correlator_"

STARTED = time.time()


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
    def folded(self) -> int: ...


def exposition(service: "Measured") -> bytes:
    """All metrics in Prometheus' text format."""
    # Imported at the first scrape: prometheus_client costs 10 MB that an unscraped sidecar need not pay.
    from prometheus_client.exposition import generate_latest  # noqa: PLC0415
    from prometheus_client.registry import CollectorRegistry  # noqa: PLC0415

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(service))
    return generate_latest(registry)


class _Collector:
    def __init__(self, service: "Measured") -> None:
        self._service = service

    def collect(self) -> "Iterator[Metric]":
        from prometheus_client.core import (  # noqa: PLC0415
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        for name, text, labels, values in counters(self._service):
            yield _family(CounterMetricFamily, name, text, labels, values)
        for name, text, labels, values in gauges(self._service):
            yield _family(GaugeMetricFamily, name, text, labels, values)
        for name, text, labels, values in waiting(self._service):
            yield _family(GaugeMetricFamily, name, text, labels, values)
        if self._service.http is not None:
            took, text = self._service.http.latency, "How long each alert over http kept Falco waiting."
            yield HistogramMetricFamily(PREFIX + "alert_seconds", text, buckets=took.buckets(), sum_value=took.total)


def _family(kind: Callable[..., Any], name: str, text: str, labels: tuple[str, ...], values: "Values") -> Any:
    family = kind(PREFIX + name, text, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family


Values = Mapping[tuple[str, ...], float]
Row = tuple[str, str, tuple[str, ...], Mapping[Any, float]]


def counters(service: "Measured") -> Iterator[Row]:
    """Everything that only grows: name, help, label names, value by label values."""
    pipeline = service.pipeline
    yield "alerts_received", "Alerts that came in, by source.", ("source",), _by(_received(service))
    reasons = {(reason,): float(pipeline.reasons[reason]) for reason in REASONS}
    yield "alerts_odd", "Alerts that were not correlated, or were odd, by reason.", ("reason",), reasons
    signs = {(sign,): float(pipeline.of_falco[sign]) for sign in ("heartbeats", "drops")}
    yield "falco_signs", "What Falco said of itself: signs of life, and events that it dropped.", ("sign",), signs
    yield "detections", "Alerts that a correlation rule cares about.", (), {(): pipeline.detections}
    yield "incidents_opened", "Incidents opened.", (), {(): pipeline.correlator.opened}
    severities = {(severity,): float(service.notified[severity]) for severity in RANK}
    yield "notifications", "Notifications decided, by severity.", ("severity",), severities
    yield from _of_what_goes_out(service)
    if service.http is not None:
        connections = service.http.connections
        yield "http_refused", "Requests and handshakes refused, by status.", ("status",), _by(connections.refused)
        yield "http_pushed_out", "Silent connections that had to make room.", (), {(): connections.pushed_out}
    yield (
        "contexts_folded",
        "Contexts folded into their container's under pressure.",
        (),
        {(): service.folded},
    )
    shed = {(name,): float(budget.shrunk) for name, budget in pipeline.containers.budgets.items()}
    yield "memory_shed", "What was given up because all containers together held too much.", ("what",), shed
    yield "containers_evicted", "Containers forgotten under pressure.", (), {(): pipeline.containers.evicted}


def _received(service: "Measured") -> Mapping[str, int]:
    """Zero where none has come yet: only a series that exists can be found silent."""
    return dict.fromkeys(service.settings.sources(), 0) | {**service.received}


def _of_what_goes_out(service: "Measured") -> Iterator[Row]:
    outcomes = {
        (each.sink.name, outcome): float(each.counts[outcome])
        for each in service.deliveries
        for outcome in ("sent", "failed", "refused", "dropped", "broken")
    }
    yield "sink_notifications", "Notifications by sink and outcome.", ("sink", "outcome"), outcomes
    if service.subscribers is not None:
        yield from _of_subscribers(service.subscribers, service.server)
    if service.pass_through is not None:
        passed = {
            (o,): float(service.pass_through.counts[o]) for o in ("sent", "rejected", "failed", "dropped", "broken")
        }
        yield "pass_through_alerts", "Raw alerts passed through, by outcome.", ("outcome",), passed


def _of_subscribers(subscribers: "Subscribers", server: "GrpcServer | None") -> Iterator[Row]:
    pairs = (
        ("incident", "sent"),
        ("incident", "dropped"),
        ("alert", "sent"),
        ("alert", "dropped"),
        ("alert", "unreadable"),
    )
    given = {pair: float(subscribers.counts[pair]) for pair in pairs}
    yield "grpc_messages", "Messages to gRPC subscribers, by kind and outcome.", ("kind", "outcome"), given
    refused = {(why,): float(server.refused[why]) if server is not None else 0.0 for why in ("name", "loop", "full")}
    yield "grpc_refused", "gRPC callers that were turned away, by reason.", ("reason",), refused


def gauges(service: "Measured") -> Iterator[Row]:
    """Everything that goes up and down."""
    yield "build_info", "Always 1.", ("version",), {(__version__,): 1.0}
    used = {(name,): budget.used / budget.room for name, budget in service.pipeline.containers.budgets.items()}
    yield "memory_used_ratio", "Share of what all containers together may hold that was in use.", ("what",), used
    yield (
        "containers",
        "Containers with remembered detections.",
        (),
        {(): float(len(service.pipeline.containers))},
    )
    yield (
        "sink_pending",
        "Notifications that a sink has not taken.",
        ("sink",),
        {(each.sink.name,): float(each.pending) for each in service.deliveries},
    )
    if service.pass_through is not None:
        yield "pass_through_pending", "Raw alerts that wait.", (), {(): float(service.pass_through.pending)}
    causes = {
        **({("canary",): service.health.degraded} if service.health is not None else {}),
        **({("refused_senders",): service.http.degraded} if service.http is not None else {}),
    }
    degraded = {cause: float(bool(sentence)) for cause, sentence in causes.items()}
    yield "degraded", "1 while the way from Falco to here is broken; the log says how.", ("cause",), degraded
    yield "state_trouble", "1 while the state file cannot be used.", (), {(): float(bool(service.outbox.trouble))}
    if service.http is not None:
        yield "http_connections", "Open connections.", (), {(): float(len(service.http.connections))}
    if service.subscribers is not None:
        yield "grpc_subscribers", "Streams of gRPC subscribers.", (), {(): float(len(service.subscribers))}
    if service.grpc is not None:
        yield "grpc_connected", "1 while Falco answers over gRPC.", (), {(): float(service.grpc.connected)}


def waiting(service: "Measured") -> Iterator[Row]:
    """What shows that something is stuck or grows: ages and memory."""
    oldest = {(each.sink.name,): each.oldest for each in service.deliveries}
    yield "sink_oldest_seconds", "How long the oldest notification has waited for its sink.", ("sink",), oldest
    if service.pass_through is not None:
        age = {(): service.pass_through.oldest}
        yield "pass_through_oldest_seconds", "How long the oldest raw alert has waited.", (), age
    yield "resident_memory_bytes", "Resident memory of the worker.", (), {(): _resident()}
    yield "start_time_seconds", "When the worker started, in seconds since 1970.", (), {(): STARTED}


def _resident() -> float:
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return float(pages) * os.sysconf("SC_PAGE_SIZE")


def _by(counter: Mapping[str, int]) -> Values:
    return {(name,): float(value) for name, value in counter.items()}
