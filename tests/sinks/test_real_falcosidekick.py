"""What the real Falcosidekick makes of everything that we send, in each of its outputs: whole, and in their limits.

Covers: `incidents.falco_event`, `support.falcosidekick`.
"""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import DATA, Serving
from e2e import recording
from falco.ruleset import shipped
from service.test_supervisor import free_port
from sinks.test_falcosidekick import VECTORS, answered
from support import hostile_corpus, real_falcosidekick
from support.elasticsearch import Index
from support.real_falcosidekick import OPSGENIE, PAGERDUTY, RealFalcosidekick, Receivers
from support.rules import RULES
from support.waiting import wait_until

from sidecar.alerts.classify import NOTHING
from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents.falco_event import Origin, to_json
from sidecar.model import Message, Report, Where
from sidecar.rules.loading import SHIPPED

pytestmark = pytest.mark.slow

ORIGIN = Origin("prod-eu", "https://falco.example/{cluster}/incidents/{incident}")
REPORT = Report("Correlator degraded", "high", "Falco on node n does not answer.", Where("h", "c", "", "", "n", "p"), 1)

OUTPUTS = (
    *("webhook", "alertmanager", "elasticsearch", "loki", "slack"),
    *("teams", "discord", "pagerduty", "opsgenie", "syslog"),
)
"""As Falcosidekick's metrics name them."""

SLACK_FIELDS = 25
"""More are folded away behind *Show more*: 18 of an incident and Falcosidekick's seven."""

TEAMS_BYTES = 28_000

SEVERITIES = ("low", "medium", "high", "critical")


def stock_lines() -> list[bytes]:
    return [line for file in ("stock_alerts.jsonl",) for line in (DATA / file).read_bytes().splitlines()] + (
        SHIPPED / "recordings" / "demo.jsonl"
    ).read_bytes().splitlines()


@cache
def played() -> tuple[bytes, ...]:
    """The alerts of all scenarios that were played under a live Falco, with the fields that Falco is asked for today."""
    return tuple(json.dumps(alert).encode() for alert in recording.alerts(recording.events(), shipped()))


def told(bodies: Iterable[bytes]) -> tuple[list[Message], list[bytes]]:
    """The messages that alerts lead to, and the alerts that are passed on."""
    pipeline = Pipeline(RULES, timer=lambda: 0.0)
    messages: list[Message] = []
    passed = []
    for body in bodies:
        try:
            verdict, due = pipeline.process_json(body)
        except Exception:  # the intake passes on what it cannot correlate
            verdict, due = NOTHING, []
        messages += due
        if not (verdict.is_own_incident or verdict.is_own_detection or verdict.via_falcosidekick):
            passed.append(body)
    return messages + pipeline.flush(), passed


class Delivered(NamedTuple):
    """What was sent, and where it arrived."""

    sent: list[dict[str, Any]]
    receivers: Receivers
    real: RealFalcosidekick
    elasticsearch: Index

    def by_output(self, name: str, payloads: Callable[[Any], Any]) -> list[tuple[dict[str, Any], Any]]:
        """Each message beside what an output made of it, `payloads` says which `output` a payload has."""
        arrived = Counter(payloads(body) for body in self.receivers.bodies[name])
        assert arrived == Counter(event["output"] for event in self.sent)
        found = {payloads(body): body for body in self.receivers.bodies[name]}
        return [(event, found[event["output"]]) for event in self.sent]


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Delivered]:
    """Every message of all recordings and of the hostile corpus, through one Falcosidekick with every output on."""
    real_falcosidekick.binary()
    folder = tmp_path_factory.mktemp("falcosidekick")
    sources = (stock_lines(), played(), tuple(body for _, body in hostile_corpus.json_inputs()))
    messages = [message for bodies in sources for message in told(bodies)[0]]
    events = [to_json(message, ORIGIN) for message in [*messages, REPORT]]
    receivers, index = Receivers(folder), Index()
    receivers.answers["elasticsearch"] = index.answer
    outputs = real_falcosidekick.outputs(receivers)
    with contextlib.closing(receivers), real_falcosidekick.running(folder, outputs, receivers) as real:
        assert {real.post(event) for event in events} == {200}
        real.wait_for(len(events), *OUTPUTS)
        yield Delivered([json.loads(event) for event in events], receivers, real, index)


def test_every_message_is_taken_by_every_output(delivered: Delivered) -> None:
    count = len(delivered.sent)

    assert count > 200
    assert delivered.real.sent() == {(name, "ok"): count for name in OUTPUTS}
    assert {name: len(delivered.receivers.bodies[name]) for name in delivered.receivers.bodies} == {
        {"pagerduty": PAGERDUTY, "opsgenie": OPSGENIE}.get(name, name): count for name in OUTPUTS
    }


def test_no_field_of_a_message_is_lost_or_cut_on_the_way_to_a_webhook(delivered: Delivered) -> None:
    for sent, arrived in delivered.by_output("webhook", lambda body: body["output"]):
        expected = {**sent, "uuid": arrived["uuid"], "time": arrived["time"], "tags": sorted(sent["tags"])}
        assert arrived == expected
        assert arrived["time"].rstrip("Z") == sent["time"].rstrip("Z").rstrip("0").rstrip(".")


def test_elasticsearch_takes_every_message_into_one_index(delivered: Delivered) -> None:
    documents = [document["output_fields"] for document in delivered.elasticsearch.documents]

    assert sorted(map(json.dumps, documents)) == sorted(json.dumps(sent["output_fields"]) for sent in delivered.sent)


def test_alertmanager_gets_every_field_as_a_label_and_the_sentence_as_annotation(delivered: Delivered) -> None:
    for sent, (alert,) in delivered.by_output("alertmanager", lambda body: body[0]["annotations"]["description"]):
        labels = alert["labels"]
        expected = {name.replace(".", "_"): value for name, value in sent["output_fields"].items()}
        assert expected.items() <= labels.items()
        assert (labels["alertname"], labels["priority"]) == (sent["rule"], sent["priority"])
        assert labels["severity"] == ("critical" if sent["priority"] == "Critical" else "warning")


def test_loki_gets_the_sentence_as_line_and_few_labels(delivered: Delivered) -> None:
    for sent, body in delivered.by_output("loki", lambda body: body["streams"][0]["values"][0][1]):
        labels = body["streams"][0]["stream"]
        assert (labels["rule"], labels["priority"]) == (sent["rule"], sent["priority"])
        assert labels.keys() <= {"rule", "priority", "source", "hostname", "tags", "k8s_ns_name", "k8s_pod_name"}


def test_slack_begins_with_the_sentence_and_has_every_field(delivered: Delivered) -> None:
    for sent, body in delivered.by_output("slack", lambda body: body["attachments"][0]["text"]):
        fields = {field["title"]: field["value"] for field in body["attachments"][0]["fields"]}
        assert sent["output_fields"].items() <= fields.items()
        assert len(fields) <= SLACK_FIELDS


def test_teams_has_the_sentence_and_every_field(delivered: Delivered) -> None:
    for sent, body in delivered.by_output("teams", lambda body: body["sections"][0]["text"]):
        facts = {fact["name"]: fact["value"] for fact in body["sections"][0]["facts"]}
        assert sent["output_fields"].items() <= facts.items()
        assert len(json.dumps(body)) <= TEAMS_BYTES


def test_discord_takes_it_within_its_limits(delivered: Delivered) -> None:
    for _, body in delivered.by_output("discord", lambda body: body["embeds"][0]["description"]):
        (embed,) = body["embeds"]
        texts = [text for field in embed["fields"] for text in (field["name"], field["value"])]
        assert len(embed["fields"]) <= 25
        assert max(len(field["value"]) for field in embed["fields"]) <= 1024
        assert min(map(len, texts)) > 0
        assert len(embed["description"]) + sum(map(len, texts)) <= 6000


def test_pagerduty_has_the_sentence_as_summary_within_its_limit(delivered: Delivered) -> None:
    for sent, event in delivered.by_output(PAGERDUTY, lambda body: body["payload"]["summary"]):
        assert len(event["payload"]["summary"]) <= 1024
        assert sent["output_fields"].items() <= event["payload"]["custom_details"].items()


def test_opsgenie_shows_priority_and_case_in_the_part_of_the_message_that_it_keeps(delivered: Delivered) -> None:
    for sent, alert in delivered.by_output(OPSGENIE, lambda body: body["message"]):
        assert f"{sent['priority']} {sent['rule']}"[:80] in alert["message"][:130]
        details = {name.replace(".", "_"): value for name, value in sent["output_fields"].items()}
        assert details.items() <= alert["details"].items()
        assert sum(len(name) + len(value) for name, value in alert["details"].items()) <= 8000


def test_syslog_gets_each_message_as_one_line(delivered: Delivered) -> None:
    for sent, line in delivered.by_output("syslog", lambda body: body["output"]):
        assert line["output_fields"] == sent["output_fields"]


def test_its_metrics_count_incidents_by_case_and_namespace(delivered: Delivered) -> None:
    metrics = delivered.real.metrics()

    for rule in {event["rule"] for event in delivered.sent}:
        pattern = rf'falcosidekick_falco_events_total\{{[^}}]*rule="{re.escape(rule)}"[^}}]*\}} (\d+)'
        assert sum(map(int, re.findall(pattern, metrics))) == sum(event["rule"] == rule for event in delivered.sent)


def posted(real: RealFalcosidekick, receivers: Receivers, body: bytes) -> tuple[int | str, dict[str, Any] | None]:
    """Status and forwarded event for a body, as the recorded answers have it."""
    count = len(receivers.bodies["webhook"])
    status = real.post(body)
    if status != 200:
        return status, None
    wait_until(lambda: len(receivers.bodies["webhook"]) > count)
    return status, {**receivers.bodies["webhook"][-1], "uuid": "<random uuid4>"}


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealFalcosidekick, Receivers]]:
    """A Falcosidekick with nothing but a webhook, and what that receives."""
    real_falcosidekick.binary()
    folder = tmp_path_factory.mktemp("webhook")
    receivers = Receivers(folder)
    settings = {"webhook": {"address": f"{receivers.url}/webhook"}}
    with contextlib.closing(receivers), real_falcosidekick.running(folder, settings, receivers) as real:
        yield real, receivers


def test_it_answers_each_recorded_request_as_recorded(webhook: tuple[RealFalcosidekick, Receivers]) -> None:
    for vector in VECTORS:
        assert posted(*webhook, vector["body"].encode()) == (vector["status"], vector["forwarded"]), vector["name"]


def test_our_stand_in_answers_the_hostile_corpus_as_it_does(webhook: tuple[RealFalcosidekick, Receivers]) -> None:
    different = {}
    for name, body in hostile_corpus.json_inputs():
        real, ours = posted(*webhook, body), answered(body)
        if real != ours:
            different[name] = (real, ours)

    assert different == {}


def test_every_alert_that_is_passed_on_arrives(webhook: tuple[RealFalcosidekick, Receivers], serving: Serving) -> None:
    real, receivers = webhook
    alerts = [*stock_lines(), *played()]
    passed = told(alerts)[1]
    receivers.bodies["webhook"].clear()
    with serving({"sinks": {"falcosidekick": {"url": real.url}}}) as service:
        for alert in alerts:
            service.post(alert)
        wait_until(lambda: service.metric("pass_through_pending") == 0)
        assert service.metric('pass_through_alerts_total{outcome="sent"}') == len(passed)
    wait_until(lambda: len(receivers.bodies["webhook"]) >= len(passed))

    def names(bodies: Iterable[Any]) -> Counter[tuple[str, str]]:
        return Counter((body["rule"], body["time"].rstrip("Z").rstrip("0")) for body in bodies)

    assert names(map(json.loads, passed)) <= names(receivers.bodies["webhook"])


def test_in_tap_mode_incidents_go_back_and_round_no_second_time(tmp_path: Path, serving: Serving) -> None:
    real_falcosidekick.binary()
    receivers, ours, theirs = Receivers(tmp_path), free_port(), free_port()
    outputs = {"webhook": {"address": f"http://127.0.0.1:{ours}/"}, "slack": {"webhookurl": f"{receivers.url}/slack"}}
    settings = {"http": {"port": ours}, "sinks": {"falcosidekick": {"url": f"http://127.0.0.1:{theirs}"}}}
    with (
        contextlib.closing(receivers),
        serving(settings) as service,
        real_falcosidekick.running(tmp_path, outputs, receivers, theirs) as real,
    ):
        for alert in played()[:400]:
            assert real.post(alert) == 200
        notified = wait_for_rest(service, real)

    incidents = [body for body in receivers.bodies["slack"] if "| incident=" in body["attachments"][0]["text"]]
    assert len(incidents) == notified > 0
    assert len(receivers.bodies["slack"]) == 400 + notified


def wait_for_rest(service: Any, real: RealFalcosidekick) -> int:
    """The number of incidents, once each alert and each incident has come back to the service."""

    def notified() -> int:
        return sum(int(service.metric(f'notifications_total{{severity="{each}"}}')) for each in SEVERITIES)

    def is_at_rest() -> bool:
        done = real.sent()
        count = 400 + notified()
        return all(done.get((name, "ok")) == count for name in ("webhook", "slack"))

    wait_until(is_at_rest, 120)
    return notified()
