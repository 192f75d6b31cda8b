"""Nothing that comes back starts anew, and no name that is made up makes a new metric series."""

import asyncio
import json
import random
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA, Play, Serving, fed, spec
from settings.test_loading import problems
from support.falcosidekick import Falcosidekick

from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents.falco_event import to_event, to_json
from sidecar.model import Message, Notification, Report, Where
from sidecar.rules.rule import CorrelationRule
from sidecar.service.metrics import exposition
from sidecar.service.service import Service
from sidecar.settings.schema import Settings
from sidecar.yamlfile.typed import build

STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()

WHERE = Where("node-1", "abc", "app", "", "shop", "app-1")
REPORT = Report("Correlator under pressure", "medium", "205 contexts", WHERE, 1_795_489_388_000_000_000)


@pytest.fixture
def notes(play: Play) -> list[Notification]:
    return play(
        spec("nginx > sh", "web_shell"),
        spec("nginx > sh > curl", "network", at="1s"),
        spec("nginx > sh > cat", "credential", at="2s"),
    )


def ways_back(event: dict[str, Any]) -> list[dict[str, Any]]:
    """What is between us and ourselves may change an event: Falcosidekick, a proxy, a log collector."""
    return [
        event,
        {
            **event,
            "uuid": "5d1d5b0c-0c1e-4f5e-9d6b-0a1b2c3d4e5f",
            "output_fields": {**event["output_fields"], "env": "x"},
        },
        {**event, "tags": [*event["tags"], "added"], "hostname": "other"},
        {**event, "tags": list(reversed(event["tags"])), "source": "k8s_audit"},
        {**event, "priority": event["priority"].lower(), "output": ""},
        dict(reversed(event.items())),
    ]


def test_our_own_messages_coming_back_are_counted_and_touch_nothing(
    rules: list[CorrelationRule], notes: list[Notification]
) -> None:
    pipeline = Pipeline(rules, lambda: 0.0)
    messages: list[Message] = [*notes, REPORT]
    back = [way for message in messages for way in ways_back(to_event(message))]
    verdicts = [pipeline.process_json(json.dumps(event).encode()) for event in back]

    assert all(verdict.is_own_incident and due == [] for verdict, due in verdicts)
    assert dict(pipeline.reasons) == {"own_incident": len(back)}
    assert list(pipeline.containers) == []


def test_an_incident_that_comes_back_a_thousand_times_opens_no_other(pipeline: Pipeline, rule: CorrelationRule) -> None:
    story = alerts(rule, [spec("nginx > sh", "web_shell"), spec("nginx > sh > curl", "network", at="1s")])
    notes = fed(pipeline, story)
    for _ in range(1000):
        notes += fed(pipeline, map(to_json, notes))

    assert len(notes) == 1
    assert pipeline.correlator.opened == 1


def test_a_forger_cannot_use_the_guard_to_hide_a_detection(pipeline: Pipeline, rule: CorrelationRule) -> None:
    """Only Falco names rules: a command line that looks like an incident is still evidence."""
    disguise = {"proc.cmdline": "sh -c 'Full Web Application Compromise' webrce_incident", "incident.id": "x"}
    story = [spec("nginx > sh", "web_shell", fields=disguise), spec("nginx > sh > curl", "network", at="1s")]

    assert len(fed(pipeline, alerts(rule, story))) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:2802/", "http://localhost:2802", "http://[::1]:2802/x"])
@pytest.mark.parametrize("place", ["sinks: {falcosidekick: {url: URL}}", "pass_through: {url: URL}"])
def test_a_url_that_leads_back_to_us_is_refused(tmp_path: Any, url: str, place: str) -> None:
    result = problems(tmp_path, place.replace("URL", f"'{url}'"), {"FALCO_CORRELATOR_SINKS__STDOUT__ENABLED": "true"})

    assert "which makes a loop" in result[0]


@pytest.mark.slow
def test_a_sink_that_sends_everything_back_gets_each_incident_once(
    serving: Serving, sidekick: Falcosidekick, rule: CorrelationRule
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "http": {"port": port},
        "sinks": {"falcosidekick": {"url": sidekick.url}},
        "pass_through": {"mode": "none"},
    }
    with serving(settings) as service:
        for body in alerts(rule, [spec("nginx > sh", "web_shell"), spec("nginx > sh > curl", "network", at="1s")]):
            service.post(body)
        sidekick.wait_for(1)
        for _ in range(50):
            for raw in list(sidekick.raw):
                service.post(raw)

        assert len(sidekick.raw) == 1
        assert service.metric('alerts_rejected_total{reason="own_incident"}') == 50.0


@pytest.mark.slow
def test_an_alert_that_falcosidekick_had_is_correlated_but_not_sent_to_it_again(
    serving: Serving, sidekick: Falcosidekick
) -> None:
    returned = {**json.loads(STOCK[3]), "uuid": "5d1d5b0c-0c1e-4f5e-9d6b-0a1b2c3d4e5f"}
    with serving({"sinks": {"falcosidekick": {"url": sidekick.url}}}) as service:
        service.post(json.dumps(returned).encode())
        service.post(STOCK[4])
        sidekick.wait_for(1)

        assert service.service.pipeline.detections == 2
        assert service.metric('alerts_anomalous_total{reason="via_falcosidekick"}') == 1.0
    assert [raw for raw in sidekick.raw if b"incident.id" not in raw] == [STOCK[4]]


def series(text: bytes) -> set[str]:
    return {line.rpartition(" ")[0] for line in text.decode().splitlines() if not line.startswith("#")}


@pytest.mark.slow
def test_100000_random_names_make_no_new_series(rules: list[CorrelationRule]) -> None:
    numbers = random.Random(3)
    settings = build(Settings, {"http": {"port": 0}, "sinks": {"stdout": {"enabled": True}}}, "test")
    alert = json.loads(STOCK[0])
    template = json.dumps({**alert, "rule": "RULE", "hostname": "HOST", "priority": "PRIORITY", "source": "SOURCE"})

    async def flood() -> tuple[set[str], set[str]]:
        service = Service(settings, rules, [])
        service.intake.take_json(STOCK[0])
        before = series(exposition(service))
        for number in range(100_000):
            name = f"{numbers.getrandbits(64):x}"
            body = template.replace("RULE", name)
            for word in ("HOST", "PRIORITY", "SOURCE"):
                body = body.replace(word, name if number % 2 else word.title())
            service.intake.take_json(body.encode())
        return before, series(exposition(service))

    before, after = asyncio.run(flood())

    assert before == after
    assert len(after) < 100


def test_every_renamed_metric_in_the_upgrade_notes_exists() -> None:
    notes = (Path(__file__).parents[2] / "docs" / "upgrading.md").read_text().partition("### Metrics")[2]
    new = set(re.findall(r"`([a-z_]+)(?:\{[^`]*\})?`", "".join(line.split("|")[2] for line in table(notes))))
    reference = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text()

    assert {name for name in new if f"`falco_correlator_{name}`" not in reference} <= {"http_alert_duration_seconds"}


def table(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| `")]
