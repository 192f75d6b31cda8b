"""Of several alerts about one event the first is passed on, as with `rule_matching: first`; in doubt all are."""

import json
from typing import Any

import pytest
from conftest import DATA, Serving, spec
from support.falcosidekick import Falcosidekick

from sidecar.cli.testing.stories import alerts
from sidecar.delivery.first_match import FirstMatch
from sidecar.rules.rule import CorrelationRule

STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()


SH = {"proc.pid": 7}


def alert(rule: str, fields: dict[str, Any], *, time: str = "2026-11-24T03:03:08.1Z", host: str = "n") -> bytes:
    body = {"rule": rule, "time": time, "source": "syscall", "hostname": host, "output_fields": fields}
    return json.dumps(body).encode()


def passed(*bodies: bytes) -> list[bool]:
    is_first = FirstMatch()
    return [is_first(body) for body in bodies]


def test_the_recorded_alerts_become_one_for_each_event() -> None:
    is_first = FirstMatch()
    rules = [json.loads(line)["rule"] for line in STOCK if is_first(line)]

    assert (len(STOCK), len(rules)) == (119, 68)
    assert rules[:3] == [
        "Launch Excessively Capable Container",  # and not "Launch Sensitive Mount Container", which matched as well
        "Run shell untrusted",
        "Web Server Spawned Suspicious Child Process",
    ]


def test_the_second_and_third_rule_of_an_event_are_withheld() -> None:
    one = {"proc.pid": 7, "proc.name": "sh"}

    assert passed(alert("A", one), alert("B", {**one, "extra": 1}), alert("C", SH)) == [True, False, False]


@pytest.mark.parametrize(
    "other",
    [
        alert("B", {"proc.pid": 8}),
        alert("B", SH, time="2026-11-24T03:03:08.2Z"),
        alert("B", SH, host="m"),
        alert("A", SH),
        alert("B", {"ka.verb": "get"}),
        b'{"rule": "B", "time": "2026-11-24T03:03:08.1Z", "source": "syscall", "hostname": "n"}',
        b"no alert",
        b"\xff",
        b"[" * 100_000,
    ],
    ids=[
        *("another process", "another time", "another host", "the same rule again", "nothing in common"),
        *("without fields", "no JSON", "no UTF-8", "nested deeply"),
    ],
)
def test_what_may_be_another_event_is_passed_on(other: bytes) -> None:
    assert passed(alert("A", SH), other) == [True, True]


@pytest.mark.slow
def test_the_service_withholds_further_alerts_of_an_event_counts_them_and_sends_the_incident(
    serving: Serving, sidekick: Falcosidekick, rule: CorrelationRule
) -> None:
    story = list(alerts(rule, [spec("nginx > sh", "web_shell"), spec("nginx > sh > curl", "network", at="1s")]))
    stock = [json.loads(body) for body in story]
    bodies = [json.dumps({**body, "rule": name, "tags": []}).encode() for body in stock for name in ("Stock", "Other")]
    settings = {"sinks": {"falcosidekick": {"url": sidekick.url}}, "pass_through": {"match": "first"}}
    with serving(settings) as service:
        for body in [bodies[0], story[0], *bodies[1:3], story[1], bodies[3]]:
            service.post(body)
        sidekick.wait_for(3)

        assert service.metric('pass_through_alerts_total{outcome="withheld"}') == 2.0

    rules = [event["rule"] for event in sidekick.events]
    assert (rules.count("Stock"), rules.count("Other"), len(rules)) == (2, 0, 3)
