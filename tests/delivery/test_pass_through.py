"""Raw alerts reach Falcosidekick as if nobody stood in between: the same bytes, in order, whatever happens.

Covers: `delivery.stage`.
"""

import json
from pathlib import Path

import pytest
from conftest import DATA, Serving, spec
from service.test_supervisor import free_port
from support.crash import Victim, raw_alert, raw_alerts_over_kills, send_raw
from support.falcosidekick import Falcosidekick, Panicked
from support.waiting import wait_until

from sidecar.cli.testing.stories import alerts
from sidecar.delivery import pass_through
from sidecar.rules.rule import CorrelationRule

pytestmark = pytest.mark.slow

STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()


def raw_alerts(sidekick: Falcosidekick) -> list[bytes]:
    return [body for body in sidekick.raw if b'"incident.id"' not in body]


def test_every_alert_goes_on_byte_for_byte_and_in_order(serving: Serving, sidekick: Falcosidekick) -> None:
    with serving({"sinks": {"falcosidekick": {"url": sidekick.url}}}) as service:
        for line in STOCK:
            service.post(line)

    assert raw_alerts(sidekick) == STOCK


@pytest.mark.parametrize(("mode", "count"), [("others", 0), ("all", 2), ("none", 0)])
def test_our_own_detections_go_on_only_when_all_is_asked_for(
    serving: Serving, sidekick: Falcosidekick, rule: CorrelationRule, mode: str, count: int
) -> None:
    story = list(alerts(rule, [spec("nginx > sh", "web_shell"), spec("nginx > sh > curl", "network", at="1s")]))
    settings = {"sinks": {"falcosidekick": {"url": sidekick.url}}, "pass_through": {"mode": mode}}
    with serving(settings) as service:
        for body in story:
            service.post(body)

    assert count == len(raw_alerts(sidekick))
    assert len(sidekick.raw) - count == 1


def test_an_outage_of_falcosidekick_loses_nothing_and_keeps_the_order(
    serving: Serving, sidekick: Falcosidekick
) -> None:
    def hang_up(number: int) -> None:
        if number in {3, 4, 20}:
            raise Panicked

    sidekick.behave = hang_up
    with serving({"sinks": {"falcosidekick": {"url": sidekick.url}}}) as service:
        for line in STOCK:
            service.post(line)
        sidekick.wait_for(len(STOCK) + 3)

    assert raw_alerts(sidekick) == STOCK


def test_an_alert_that_kills_the_receiver_is_given_up_and_the_next_ones_go_on(
    serving: Serving, sidekick: Falcosidekick
) -> None:
    alert = json.loads(STOCK[0])
    deadly = json.dumps({**alert, "output_fields": {**alert["output_fields"], "k8s.pod.name": 5}}).encode()
    with serving({"sinks": {"falcosidekick": {"url": sidekick.url}}}) as service:
        service.post(deadly)
        service.post(STOCK[1])
        sidekick.wait_for(1)

        assert [STOCK[1]] == raw_alerts(sidekick)
        wait_until(lambda: service.metric('pass_through_alerts_total{outcome="rejected"}') == 1.0)


def test_a_full_queue_drops_the_oldest_and_counts(serving: Serving) -> None:
    settings = {
        "sinks": {"stdout": {"enabled": True}},
        "pass_through": {"url": "http://127.0.0.1:9/", "queue_size": 10},
    }
    with serving(settings) as service:
        for line in STOCK[:30]:
            assert service.post(line) == 200

        assert service.metric('pass_through_alerts_total{outcome="dropped"}') == 20.0
        assert service.metric("pass_through_pending") == 10.0


@pytest.mark.parametrize("status", [301, 429, 500, 503])
def test_an_answer_that_may_change_is_tried_again_and_the_order_is_kept(
    serving: Serving, sidekick: Falcosidekick, status: int
) -> None:
    sidekick.behave = lambda number: status if number in {0, 1, 5} else None
    with serving({"sinks": {"falcosidekick": {"url": sidekick.url}}}) as service:
        for line in STOCK[:20]:
            service.post(line)
        sidekick.wait_for(20)

    assert raw_alerts(sidekick)[-18:] == STOCK[2:20]
    assert {*raw_alerts(sidekick)} == {*STOCK[:20]}


def test_nothing_overtakes_an_alert_that_a_busy_receiver_turns_away(
    serving: Serving, sidekick: Falcosidekick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pass_through, "PAUSES", lambda _: 0.0)
    sidekick.behave = lambda number: (
        None if number % (pass_through.MAX_ATTEMPTS + 1) == pass_through.MAX_ATTEMPTS else 503
    )
    with serving({"sinks": {"falcosidekick": {"url": sidekick.url}}}) as service:
        for line in STOCK[:20]:
            service.post(line)
        wait_until(lambda: service.metric('pass_through_alerts_total{outcome="sent"}') == 20.0)

    assert raw_alerts(sidekick) == STOCK[:20]


def test_an_alert_that_the_receiver_will_never_accept_is_counted_as_rejected(
    serving: Serving, sidekick: Falcosidekick
) -> None:
    sidekick.behave = lambda number: 400 if number == 0 else None
    with serving({"sinks": {"falcosidekick": {"url": sidekick.url}}}) as service:
        for line in STOCK[:2]:
            service.post(line)
        sidekick.wait_for(1)

        assert service.metric('pass_through_alerts_total{outcome="rejected"}') == 1.0
        assert service.metric('pass_through_alerts_total{outcome="sent"}') == 1.0


@pytest.mark.parametrize("with_state", [True, False])
def test_raw_alerts_that_wait_outlive_the_worker_in_order(
    tmp_path: Path, sidekick: Falcosidekick, *, with_state: bool
) -> None:
    victim = Victim(tmp_path, free_port(), sidekick=sidekick.url, with_state=with_state)
    judged = raw_alerts_over_kills(victim, sidekick, count=3000, kills=4)

    assert (judged.lost, judged.in_order) == (0, True)
    assert judged.repeated <= 2 * 4  # what was on its way to the sink, and what Falco had no answer to


def test_raw_alerts_that_wait_outlive_both_processes_with_a_state_file(tmp_path: Path, sidekick: Falcosidekick) -> None:
    sidekick.behave = lambda _: 503
    victim = Victim(tmp_path, free_port(), sidekick=sidekick.url)
    send_raw(victim, range(500))
    victim.kill_all()
    sidekick.behave = lambda _: None
    victim.start()
    sidekick.wait_for(500)
    victim.stop()

    assert [raw_alert(number) for number in range(500)] == raw_alerts(sidekick)[-500:]


def test_raw_alerts_whose_ring_was_deleted_are_in_a_new_one_within_a_second(
    tmp_path: Path, sidekick: Falcosidekick
) -> None:
    sidekick.behave = lambda _: 503
    victim = Victim(tmp_path, free_port(), sidekick=sidekick.url)
    ring = tmp_path / "state.db.ring"
    send_raw(victim, range(300))
    ring.unlink()
    wait_until(lambda: ring.exists() and b"0000299" in ring.read_bytes())
    victim.kill_worker()
    sidekick.behave = lambda _: None
    sidekick.wait_for(300)
    victim.stop()

    assert [raw_alert(number) for number in range(300)] == raw_alerts(sidekick)[-300:]


def test_a_ring_that_cannot_be_opened_costs_no_alert_and_is_logged(
    serving: Serving, sidekick: Falcosidekick, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state.db.ring").mkdir()
    settings = {"sinks": {"falcosidekick": {"url": sidekick.url}}, "state": {"path": str(tmp_path / "state.db")}}
    with serving(settings) as service:
        service.post(STOCK[0])
        sidekick.wait_for(1)

    assert [STOCK[0]] == raw_alerts(sidekick)
    assert "a file for what waits cannot be used" in caplog.text
