"""What a sensor, a proxy or an attacker may send: each is counted under a reason, answered 200, and harms nothing.

Covers: `service.intake`, `errors`.
"""

import json
from typing import Any

import pytest
from conftest import Serving, cases, fed, spec
from support.falcosidekick import Falcosidekick

from sidecar.alerts import decode
from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents.falco_event import to_json
from sidecar.model import Fields
from sidecar.rules.rule import CorrelationRule

GOOD: dict[str, Any] = {
    "hostname": "node-1",
    "output": "x",
    "priority": "Warning",
    "rule": "Run shell untrusted",
    "source": "syscall",
    "tags": ["T1059"],
    "time": "2026-11-24T03:03:08.051762630Z",
    "output_fields": {
        "container.id": "a1b2c3d4a1b2",
        "proc.pid": 50,
        "proc.name": "sh",
        "proc.cmdline": "sh",
        "proc.ppid": 40,
        "proc.aname[1]": "nginx",
    },
}


def good(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def with_field(name: str, raw: str) -> bytes:
    """A good alert with one output field given as raw JSON."""
    return good().replace(b'"proc.pid": 50', f'"{name}": {raw}'.encode())


BAD: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not_json"),
    "truncated": (good()[:-40], "not_json"),
    "not JSON": (b"hello", "not_json"),
    "two documents": (good() + good(), "not_json"),
    "byte order mark": (b"\xef\xbb\xbf" + good(), "not_json"),
    "UTF-16": (good().decode().encode("utf-16"), "not_json"),
    "NaN": (with_field("proc.pid", "NaN"), "not_json"),
    "text mode": (b"03:07:40.535012431: Warning Sensitive file opened (file=/etc/shadow)", "text_mode"),
    "text mode with date": (b"2026-11-24T03:07:40.535012431+0000: Warning Sensitive file opened", "text_mode"),
    "a list": (b"[" + good() + b"]", "not_an_object"),
    "a number": (b"5", "not_an_object"),
    "null": (b"null", "not_an_object"),
    "no output_fields": (
        json.dumps({k: v for k, v in GOOD.items() if k != "output_fields"}).encode(),
        "no_output_fields",
    ),
    "empty output_fields": (good(output_fields={}), "no_output_fields"),
    "null output_fields": (good(output_fields=None), "no_output_fields"),
    "output_fields a list": (good(output_fields=["a"]), "wrong_type"),
    "no rule": (good(rule=""), "no_rule"),
    "rule a number": (good(rule=5), "wrong_type"),
    "tags a text": (good(tags="a,b"), "wrong_type"),
    "time a number": (good(time=1700000000), "wrong_type"),
    "no zone": (good(time="2026-11-24T03:03:08"), "bad_time"),
    "no process": (good(output_fields={"container.id": "a1b2c3d4a1b2", "proc.name": "sh"}), "no_process"),
    "process not available": (with_field("proc.pid", '"<NA>"'), "no_process"),
    "lone surrogate": (good().replace(b'"proc.cmdline": "sh"', b'"proc.cmdline": "\\ud800"'), "not_json"),
    "100,000 brackets": (with_field("x", "[" * 100_000 + "]" * 100_000), "too_deep"),
    "100,000 brackets outside": (good()[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep"),
    "100,000 open brackets": (b"[" * 100_000, "not_an_object"),
    "falco's own": (good(source="internal", rule="Falco internal: syscall event drop"), "internal"),
}

ODD: dict[str, tuple[bytes, str]] = {
    "unknown priority": (good(priority="Urgent"), "unknown_priority"),
    "no priority": (good(priority=""), "unknown_priority"),
    "bad UTF-8 in the arguments": (good().replace(b'"proc.cmdline": "sh"', b'"proc.cmdline": "sh \xff"'), "bad_utf8"),
    "bad UTF-8 in the rule's tags": (good().replace(b"T1059", b"T\xff1059"), "bad_utf8"),
}

FINE: dict[str, bytes] = {
    "4 MiB of arguments": good(output="x" * (4 * 1024 * 1024 - 800)),
    "5,000 digits in a field that nobody uses": with_field("x", "9" * 5000 + ', "proc.pid": 50'),
    "duplicate keys": good()[:-1] + b', "rule": "Run shell untrusted"}',
    "numbers as text": with_field("proc.pid", '"50"'),
    "NUL in the arguments": good().replace(b'"proc.cmdline": "sh"', b'"proc.cmdline": "sh \\u0000"'),
    "info for informational": good(priority="Info"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_counted_under_its_reason_and_not_correlated(pipeline: Pipeline, name: str) -> None:
    body, reason = BAD[name]
    pipeline.process_json(body)

    assert ({reason: 1}, 0) == (dict(pipeline.reasons), pipeline.detections)


@pytest.mark.parametrize("name", ODD)
def test_odd_input_is_counted_and_used(pipeline: Pipeline, name: str) -> None:
    body, reason = ODD[name]
    pipeline.process_json(body)

    assert ({reason: 1}, 1) == (dict(pipeline.reasons), pipeline.detections)


@pytest.mark.parametrize("name", FINE)
def test_unusual_but_valid_input_is_used_like_any_other(pipeline: Pipeline, name: str) -> None:
    pipeline.process_json(FINE[name])

    assert (dict(pipeline.reasons), pipeline.detections) == ({}, 1)


def test_a_second_delivery_of_the_same_alert_is_a_duplicate(pipeline: Pipeline) -> None:
    pipeline.process_json(good())
    pipeline.process_json(good())

    assert (dict(pipeline.reasons), pipeline.detections) == ({"duplicate": 1}, 1)


def test_another_rule_on_the_same_event_is_no_duplicate(pipeline: Pipeline) -> None:
    pipeline.process_json(good())
    pipeline.process_json(good(rule="Web Server Spawned Shell"))

    assert (dict(pipeline.reasons), pipeline.detections) == ({}, 2)


def test_a_time_in_the_future_is_taken_for_now(rules: list[CorrelationRule], rule: CorrelationRule) -> None:
    now = 1795489388_000000000
    pipeline = Pipeline(rules, lambda: 0.0, lambda: now)
    shell, curl = alerts(rule, [spec("nginx > sh", "web_shell"), spec("nginx > sh > curl", "network", at="1h")])
    notes = fed(pipeline, (shell, curl))

    assert cases(notes) == [("medium", "Web Shell with Network Activity")]
    assert dict(pipeline.reasons) == {"future_time": 1}
    assert now == notes[0].last


def test_our_own_incident_coming_back_is_counted_and_does_nothing(pipeline: Pipeline, rule: CorrelationRule) -> None:
    story = [spec("nginx > sh", "web_shell"), spec("nginx > sh > curl", "network", "credential", at="1s")]
    for body in alerts(rule, story):
        pipeline.process_json(body)
    (note,) = pipeline.flush()
    verdict, due = pipeline.process_json(to_json(note))

    assert (verdict.is_own_incident, due) == (True, [])
    assert dict(pipeline.reasons) == {"own_incident": 1}


@pytest.mark.slow
def test_over_http_every_bad_input_is_answered_200_passed_through_and_the_attack_is_still_seen(
    serving: Serving, sidekick: Falcosidekick, rule: CorrelationRule
) -> None:
    settings = {"sinks": {"falcosidekick": {"url": sidekick.url}}}
    bodies = [body for body, _ in [*BAD.values(), *ODD.values()] if body]
    with serving(settings) as service:
        answers = {service.post(body) for body in bodies}
        for body in alerts(rule, [spec("nginx > sh", "web_shell"), spec("nginx > sh > curl", "network", at="1s")]):
            service.post(body)
        reasons = dict(service.service.pipeline.reasons)
    passed = [raw for raw in sidekick.raw if b"incident.id" not in raw]

    assert {200} == answers
    assert [body for body in bodies if b"Falco internal" not in body] == [
        raw for raw in passed if b"Falco internal" not in raw
    ]
    assert {reason for _, reason in [*BAD.values(), *ODD.values()]} <= set(reasons)
    assert [
        (event["priority"], event["rule"]) for event in sidekick.events if "incident.id" in event["output_fields"]
    ] == [("Warning", "Web Shell with Network Activity")]


@pytest.mark.slow
def test_a_body_over_4_mib_is_refused_and_counted_and_the_service_lives(serving: Serving) -> None:
    with serving({"sinks": {"stdout": {"enabled": True}}}) as service:
        try:
            status = service.post(b"x" * (4 * 1024 * 1024 + 1))
        except OSError:  # closed while we were still sending
            status = 413
        service.falco.close()

        assert status == 413
        assert service.metric('http_refused_total{status="413"}') == 1.0
        assert service.post(good()) == 200


@pytest.mark.parametrize(
    "raw",
    ["[1]", "{}", "true", "1.5", '"twelve"', "9" * 5000, str(2**63), str(-(2**63) - 1), f'"{10**26}"', "1.79549e+18"],
)
def test_a_number_of_the_wrong_type_costs_that_field_only(pipeline: Pipeline, raw: str) -> None:
    body = with_field("proc.pid.ts", raw + ', "proc.pid": 50')
    pipeline.process_json(body)

    assert (dict(pipeline.reasons), pipeline.detections) == ({"bad_field": 1}, 1)
    kept = fields_of(body)
    assert (kept.start, kept.pid, kept.cmdline, kept.aname1) == (None, 50, "sh", "nginx")


def test_a_process_name_that_is_a_number_costs_that_field_only(pipeline: Pipeline) -> None:
    body = with_field("proc.name", '5, "proc.pid": 50').replace(b'"proc.name": "sh"', b'"x": 1')
    pipeline.process_json(body)

    assert (dict(pipeline.reasons), pipeline.detections) == ({"bad_field": 1}, 1)
    assert fields_of(body).name is None


@pytest.mark.parametrize(("raw", "number"), [("50.0", 50), ("5e1", 50), ('"50.0"', 50), ("-0.0", 0)])
def test_a_whole_number_with_a_decimal_point_is_that_number(raw: str, number: int) -> None:
    assert fields_of(with_field("proc.pid", raw)).pid == number
    assert fields_of(with_field("proc.pid", raw + ', "proc.sid": [1]')).pid == number


def fields_of(body: bytes) -> Fields:
    return decode.envelope(body).alert().fields
