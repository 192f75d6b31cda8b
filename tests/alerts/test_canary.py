"""Five kinds of silence, each named by its likely cause.

Covers: `service.health`.
"""

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from conftest import Serving, spec
from support import fake_falco
from support.waiting import until_true, wait_until

from sidecar.alerts.canary import MARKER, RULES, Canary, Traffic
from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import EVENTS_DROPPED, Pipeline
from sidecar.model import Report
from sidecar.rules.loading import SHIPPED
from sidecar.rules.rule import CorrelationRule
from sidecar.service.health import Health
from sidecar.settings.schema import CanarySettings
from sidecar.yamlfile.typed import Duration

NONE = Traffic(0, 0, 0)
SOME = Traffic(5, 0, 0)


def outcome(canary: Canary, rules: tuple[str, ...], traffic: Traffic) -> str:
    canary.record_sent("n1")
    for rule in rules:
        canary.record_alert(rule, f"python3 {MARKER}n1")
    return canary.diagnosis(traffic)


def test_all_is_well_when_both_come_back() -> None:
    assert outcome(Canary(over_grpc=False), RULES, SOME) == ""


@pytest.mark.parametrize(
    ("over_grpc", "back", "traffic", "cause"),
    [
        (False, (), NONE, "Falco is not running"),
        (False, (), SOME, "our rule files are not loaded"),
        (False, RULES[:1], SOME, "set rule_matching: all"),
        (True, RULES[:1], SOME, "set rule_matching: all"),
        (False, (), Traffic(5, 5, 0), "set json_output: true"),
        (False, (), Traffic(0, 0, 3), "secret path"),
        (True, (), NONE, "Falco is not running"),
    ],
)
def test_each_silence_has_its_cause(over_grpc: bool, back: tuple[str, ...], traffic: Traffic, cause: str) -> None:
    assert cause in outcome(Canary(over_grpc=over_grpc), back, traffic)


def test_canaries_that_come_back_only_now_and_then_are_stolen_by_a_second_grpc_reader() -> None:
    canary = Canary(over_grpc=True)
    outcome(canary, RULES, SOME)

    assert "second reader" in outcome(canary, (), SOME)
    assert "second reader" in outcome(canary, RULES[:1], SOME)


def test_somebody_elses_marker_does_not_count() -> None:
    canary = Canary(over_grpc=False)
    canary.record_sent("mine")
    for rule in RULES:
        canary.record_alert(rule, f"python3 {MARKER}theirs")

    assert canary.diagnosis(NONE)


def alert(rule: str, cmdline: str, **more: Any) -> bytes:
    fields = {"container.id": "host", "proc.pid": 7, "proc.cmdline": cmdline}
    body = {"rule": rule, "priority": "Informational", "time": "2026-11-24T03:03:08Z", "hostname": "node-1"}
    return json.dumps({**body, "output_fields": fields, **more}).encode()


def test_the_pipeline_tells_the_canary_of_its_alerts_and_counts_them(pipeline: Pipeline) -> None:
    pipeline.canary = Canary(over_grpc=False)
    pipeline.canary.record_sent("n1")
    for rule in RULES:
        verdict, due = pipeline.process_json(alert(rule, f"python3 -S -c {MARKER}n1"))
        assert (verdict.is_canary, verdict.is_own_detection, due) == (True, True, [])

    assert pipeline.canary.diagnosis(SOME) == ""
    assert dict(pipeline.reasons) == {"canary": 2}


def test_the_shipped_falco_rules_have_the_names_and_the_mark() -> None:
    rules = [e for e in yaml.safe_load((SHIPPED / "canary_rules.yaml").read_text()) if "rule" in e]
    (macro,) = [e for e in yaml.safe_load((SHIPPED / "canary_rules.yaml").read_text()) if "macro" in e]

    assert list(RULES) == [rule["rule"] for rule in rules]
    assert f'"{MARKER}"' in macro["condition"]


@pytest.mark.slow
def test_the_marker_process_is_started_and_a_silence_is_reported_once_and_its_end_too() -> None:
    reports: list[Report] = []
    canary = Canary(over_grpc=False)
    settings = CanarySettings(enabled=True, interval=Duration.parse("10ms"))
    alerts_in = [0]

    async def watch() -> tuple[str, str]:
        health = Health(
            settings,
            canary,
            traffic=lambda: Traffic(alerts_in[0], 0, 0),
            report=reports.append,
            node="node-7",
            patience=0.02,
        )
        health.to_settle = 0.02
        health.start()
        await until_true(lambda: health.degraded)
        silent = health.degraded
        canary.diagnosis = lambda traffic: ""  # type: ignore[method-assign]
        await until_true(lambda: not health.degraded)
        well = health.degraded
        await health.stop()
        return silent, well

    silent, well = asyncio.run(watch())

    assert ("Falco is not running" in silent, well) == (True, "")
    assert [(report.case, report.severity) for report in reports] == [("Correlator degraded", "high")]
    assert (reports[0].where.host, reports[0].text.endswith("(node node-7)")) == ("node-7", True)


def judged(verdicts: list[str], *, alerts: int, settle: float) -> list[str]:
    """What is degraded after each verdict."""
    settings = CanarySettings(enabled=True)
    traffic = Traffic(alerts, 0, 0)
    health = Health(settings, Canary(over_grpc=False), traffic=lambda: traffic, report=lambda _: None)
    health.to_settle = settle
    states = []
    for verdict in verdicts:
        health._judge(health._confirmed(verdict))
        states.append(health.degraded)
    return states


def test_one_canary_that_is_lost_under_load_is_not_reported() -> None:
    assert judged(["x", "", "x", "x", "x", ""], alerts=5, settle=0) == ["", "", "", "x", "x", ""]


def test_silence_is_not_reported_while_falco_may_still_be_starting() -> None:
    assert judged(["x", "x", "x"], alerts=0, settle=300) == ["", "", ""]
    assert judged(["x", "x"], alerts=0, settle=0) == ["", "x"]


def test_a_falco_that_sends_the_wrong_thing_is_reported_at_once_after_a_start() -> None:
    assert judged(["x", "x"], alerts=1, settle=300) == ["", "x"]


@pytest.mark.slow
def test_a_degraded_service_says_so_in_its_metrics_and_to_its_sinks(serving: Serving, tmp_path: Path) -> None:
    sink = tmp_path / "incidents.jsonl"
    with serving({"canary": {"enabled": True}, "sinks": {"file": {"path": str(sink)}}}) as service:
        assert service.service.health
        service._loop.call_soon_threadsafe(service.service.health._judge, "Falco is not running")
        wait_until(lambda: sink.exists() and sink.read_text())
        degraded = service.metric('degraded{cause="canary"}')

    assert (degraded, json.loads(sink.read_text().splitlines()[0])["rule"]) == (1.0, "Correlator degraded")


def test_dropped_events_mark_the_open_incidents_of_that_host(pipeline: Pipeline, rule: CorrelationRule) -> None:
    story = [spec("nginx > sh", "web_shell"), spec("nginx > sh > curl", "network", at="1s")]
    for body in alerts(rule, story):
        pipeline.process_json(body)
    pipeline.flush()
    dropped = {"source": "internal", "priority": "Debug"}
    pipeline.process_json(alert(EVENTS_DROPPED, "", **dropped))
    pipeline.process_json(alert(EVENTS_DROPPED, "", **dropped, hostname="node-2"))
    for body in alerts(rule, [spec("nginx > sh > cat", "credential", at="2s")]):
        pipeline.process_json(body)
    (note,) = pipeline.flush()

    assert note.incomplete  # type: ignore[union-attr]


def test_falcos_own_events_are_signs_of_life(pipeline: Pipeline) -> None:
    pipeline.process_json(alert("Falco internal: metrics snapshot", "", source="internal"))
    pipeline.process_json(alert(EVENTS_DROPPED, "", source="internal"))

    assert dict(pipeline.falco_events) == {"heartbeats": 1, "drops": 1}


@pytest.mark.slow
def test_a_second_reader_of_falcos_queue_is_named(
    serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falco, address = fake_falco.FakeFalco(), f"unix://{tmp_path}/falco.sock"

    async def seen_by_falco(nonce: str) -> None:
        for rule in RULES:
            falco.queue.append(fake_falco.response(json.loads(alert(rule, MARKER + nonce))))

    monkeypatch.setattr("sidecar.service.health._start_marker", seen_by_falco)
    monkeypatch.setattr("sidecar.service.service.Health", partial(Health, patience=0.3))
    settings = {
        "http": {"enabled": False},
        "grpc": {"enabled": True, "address": address, "max_poll_interval": "20ms"},
        "canary": {"enabled": True, "interval": "300ms"},
        "sinks": {"file": {"path": str(tmp_path / "incidents.jsonl")}},
    }
    with fake_falco.running(address, falco), serving(settings) as service:
        wait_until(lambda: len(service.service.pipeline.canary._outcomes) >= 2)
        alone = service.service.health.degraded
        with grpc.insecure_channel(address) as channel:
            thief = channel.unary_stream("/falco.outputs.service/get", lambda it: it, lambda it: it)

            def is_named() -> bool:
                list(thief(b""))
                return "second reader" in service.service.health.degraded

            wait_until(is_named)
        named = service.service.health.degraded

    assert "second reader" not in alone
    assert "a second reader takes alerts from Falco's gRPC queue" in named
