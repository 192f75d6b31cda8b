"""Asks running programs for `doctor`: Falco's web server, and the administration port of a correlator.

Both tell what they are by what they answer, so an address is enough.
"""

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator

from sidecar.cli.checking.documents import Found
from sidecar.cli.doctor import Finding
from sidecar.model import REJECTIONS
from sidecar.text import escape

TIMEOUT_SECONDS = 5.0

MAX_ANSWER_BYTES = 8 * 1024 * 1024

LATE_SECONDS = 60
"""Age of a notification from which on its sink is taken to fail."""

TROUBLES = ("text_mode", "no_output_fields", "no_process", "wrong_type", "not_json", "bad_time", "no_rule")
"""Reasons for which alerts are not correlated, and that can be fixed."""

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([0-9.eE+-]+|NaN)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

UNKNOWN = "is neither Falco's web server (port 8765) nor the administration port of a correlator (2812)"

FALCO = "falcosecurity_"
OURS = "falco_correlator_"


class Metrics:
    """Samples of Prometheus' text format by name and labels."""

    def __init__(self, text: str) -> None:
        self.samples = [
            (name, dict(_LABEL.findall(labels)), float(value)) for name, labels, value in _SAMPLE.findall(text)
        ]

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples of a metric, with these labels."""
        return sum(value for _, _, value in self._matching(name, labels))

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """The sums that are not 0, by one label."""
        sums: dict[str, float] = {}
        for _, labels, value in self._matching(name, {}):
            if value:
                sums[labels.get(label, "")] = sums.get(labels.get(label, ""), 0.0) + value
        return sums

    def _matching(self, name: str, labels: dict[str, str]) -> list[tuple[str, dict[str, str], float]]:
        return [each for each in self.samples if each[0] == name and labels.items() <= each[1].items()]


def examined(url: str) -> Found:
    """What answers at an address, and what is wrong with it."""
    base = url.rstrip("/")
    try:
        health = _get(f"{base}/healthz")
        if health.startswith("{"):
            return _falco(base)
        metrics = _get(f"{base}/metrics")
    except urllib.error.HTTPError as error:
        return Found("address", [Finding(True, f"{UNKNOWN}: it answers {error.code}", where=url)], [])
    except (OSError, http.client.HTTPException, ValueError) as error:
        what = f"does not answer: {getattr(error, 'reason', None) or error}; is it running, and is this its port?"
        return Found("address", [Finding(True, escape.terminal(what), where=url)], [])
    if OURS not in metrics:
        return Found("address", [Finding(True, UNKNOWN, where=url)], [])
    found = Metrics(metrics)
    return Found("correlator", [each._replace(where=url) for each in _ours(found)], [_summary(found)])


def _get(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
        return str(answer.read(MAX_ANSWER_BYTES).decode("utf-8", "replace"))


def _falco(base: str) -> Found:
    notes: list[str] = []
    try:
        versions = json.loads(_get(f"{base}/versions"))
        notes.append(f"Falco {versions.get('falco_version', '?')}, engine {versions.get('engine_version_semver', '?')}")
    except (OSError, ValueError, AttributeError):
        notes.append("Falco, of a version that it does not tell")
    try:
        metrics = Metrics(_get(f"{base}/metrics"))
    except (OSError, ValueError):
        metrics = Metrics("")
    if metrics.samples:
        findings = list(_falco_metrics(metrics))
        notes += _loaded(metrics)
    else:
        lines = "metrics:\n  enabled: true\nwebserver:\n  prometheus_metrics_enabled: true"
        what = "Falco's metrics are off: whether it drops events, and which rules it loaded, cannot be seen"
        findings = [Finding(False, what, lines)]
    return Found("Falco", [each._replace(where=base) for each in findings], [escape.terminal(note) for note in notes])


def _falco_metrics(metrics: Metrics) -> Iterator[Finding]:
    rules = metrics.by_label(f"{FALCO}falco_sha256_rules_files_info", "file_name")
    if rules and not any("web_rce" in name for name in rules):
        yield Finding(True, "web_rce_rules.yaml is not loaded: add it to rules_files, or to a folder there")
    if rules and not any("canary" in name for name in rules):
        yield Finding(False, "canary_rules.yaml is not loaded: without it, silence goes unnoticed")
    dropped = metrics.total(f"{FALCO}falco_outputs_queue_num_drops_total")
    if dropped:
        yield Finding(True, f"{dropped:.0f} alerts were dropped because an output is too slow: see outputs_queue")
    lost = metrics.total(f"{FALCO}scap_n_drops_total")
    seen = metrics.total(f"{FALCO}scap_n_evts_total")
    if lost:
        share = f" ({lost / (seen + lost):.2%})" if seen else ""
        yield Finding(
            False, f"{lost:.0f} kernel events were dropped{share}: evidence may be missing; raise buf_size_preset"
        )


def _loaded(metrics: Metrics) -> Iterator[str]:
    files = metrics.by_label(f"{FALCO}falco_sha256_rules_files_info", "file_name")
    if files:
        yield f"rule files: {', '.join(sorted(files))}"
    matches = metrics.by_label(f"{FALCO}falco_rules_matches_total", "rule_name")
    yield f"{sum(matches.values()):.0f} alerts of {len(matches)} rules since its start"


def _summary(metrics: Metrics) -> str:
    names = {"alerts": "alerts_received", "detections": "detections", "incidents": "incidents_opened"}
    counts = {words: metrics.total(f"{OURS}{name}_total") for words, name in names.items()}
    return ", ".join(f"{count:.0f} {words}" for words, count in counts.items())


def _ours(metrics: Metrics) -> Iterator[Finding]:
    yield from _arriving(metrics)
    for cause in metrics.by_label(f"{OURS}degraded", "cause"):
        yield Finding(True, f"degraded: {_cause(cause, metrics)}")
    if metrics.total(f"{OURS}state_file_unavailable"):
        yield Finding(
            True, "the state file cannot be used: a restart would lose open incidents; the log has the reason"
        )
    if metrics.total(f"{OURS}config_refused"):
        yield Finding(True, "the newest change of rules or settings is refused: /rules says why; the old ones are used")
    if waiting := metrics.total(f"{OURS}config_needs_restart"):
        yield Finding(False, f"{waiting:.0f} changed settings take effect after a restart")
    yield from _leaving(metrics)


def _arriving(metrics: Metrics) -> Iterator[Finding]:
    received = metrics.total(f"{OURS}alerts_received_total")
    refused = metrics.by_label(f"{OURS}http_refused_total", "status")
    rejected = metrics.by_label(f"{OURS}alerts_rejected_total", "reason")
    if not received:
        yield Finding(True, "no alert has arrived: does Falco run, and is its http_output on, with this address?")
    elif not metrics.total(f"{OURS}detections_total"):
        what = "alerts arrive, but none is evidence: does Falco load web_rce_rules.yaml, with rule_matching: all?"
        yield Finding(False, what)
    if "404" in refused:
        yield Finding(True, f"{refused['404']:.0f} requests have the wrong path: Falco's URL lacks the secret path")
    for status in ("403", "tls"):
        if status in refused:
            yield Finding(True, f"{refused[status]:.0f} clients were refused ({status}): Falco's client certificate")
    for reason in TROUBLES:
        if reason in rejected:
            yield Finding(
                reason == "text_mode", f"{rejected[reason]:.0f} alerts were not correlated: {REJECTIONS[reason]}"
            )


def _cause(cause: str, metrics: Metrics) -> str:
    """A cause of `degraded` in words. The exact one is in the log; the counters show the likely one."""
    if cause != "canary":
        return "senders are refused; see the counts by status"
    if metrics.total(f"{OURS}alerts_rejected_total", reason="text_mode"):
        return "the canary does not come back: Falco sends text, set json_output: true"
    if metrics.total(f"{OURS}alerts_received_total"):
        return "the canary does not come back, or only by one rule: load canary_rules.yaml, set rule_matching: all"
    return "the canary does not come back: Falco does not run, or does not send its alerts here"


def _leaving(metrics: Metrics) -> Iterator[Finding]:
    late = metrics.by_label(f"{OURS}sink_oldest_seconds", "sink")
    for sink, seconds in late.items():
        if seconds > LATE_SECONDS:
            yield Finding(True, f"sink {sink} has not accepted a notification for {seconds:.0f} s: is it running?")
    for outcome in ("refused", "dropped"):
        for sink in metrics.by_label(f"{OURS}sink_notifications_total", "sink"):
            count = metrics.total(f"{OURS}sink_notifications_total", sink=sink, outcome=outcome)
            if count:
                yield Finding(True, f"sink {sink}: {count:.0f} notifications {outcome}; the log has the reason")
    for outcome in ("rejected", "dropped"):
        count = metrics.total(f"{OURS}pass_through_alerts_total", outcome=outcome)
        if count:
            yield Finding(
                True, f"{count:.0f} raw alerts did not reach Falcosidekick ({outcome}); the log has the reason"
            )
