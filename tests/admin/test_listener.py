"""The administration port: alive, ready, and metrics that Prometheus' own checker accepts."""

import http.client
import json
import re
import subprocess
import time

import pytest
from conftest import DATA, Running, Serving, needs
from support.waiting import wait_until

pytestmark = pytest.mark.slow

STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()
STDOUT = {"sinks": {"stdout": {"enabled": True}}}


def asked(service: Running, method: str, path: str, body: bytes | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", service.service.admin_port, timeout=60)
    connection.request(method, path, body)
    status = connection.getresponse().status
    connection.close()
    return status


def test_it_is_alive_and_ready(serving: Serving) -> None:
    with serving(STDOUT) as service:
        assert service.get("/healthz") == (200, "ok\n")
        assert service.get("/readyz") == (200, "ok\n")


def test_it_takes_no_alerts_and_knows_no_other_path(serving: Serving) -> None:
    with serving(STDOUT) as service:
        assert asked(service, "POST", "/", STOCK[0]) == 405
        for path in (
            "/index.html",
            "/incidents/../metrics",
            "/incidents/zzzz",
            "/api/v2/incidents",
            "//",
        ):
            assert asked(service, "GET", path) == 404
        assert service.service.pipeline.received == 0


def test_head_is_answered_without_a_body(serving: Serving) -> None:
    with serving(STDOUT) as service:
        assert asked(service, "HEAD", "/metrics") == 200


def test_the_ingest_port_shows_no_state(serving: Serving) -> None:
    with serving(STDOUT) as service:
        for path in ("/metrics", "/healthz"):
            connection = http.client.HTTPConnection("127.0.0.1", service.service.http_port, timeout=60)
            connection.request("GET", path)
            answer = connection.getresponse()
            assert (answer.status, answer.read()[:19]) == (405, b"POST Falco's alerts")
            connection.close()


def test_metrics_count_what_happened(serving: Serving) -> None:
    with serving(STDOUT) as service:
        for line in [*STOCK, b"hello"]:
            service.post(line)

        assert service.metric('alerts_received_total{source="http"}') == 120.0
        assert service.metric("detections_total") == 55.0
        assert service.metric("incidents_opened_total") == 4.0
        assert service.metric('alerts_rejected_total{reason="not_json"}') == 1.0
        assert service.metric('notifications_total{severity="medium"}') == 4.0


def test_100_random_rule_names_make_no_new_series(serving: Serving) -> None:
    def series(service: Running) -> set[str]:
        return {line.rpartition(" ")[0] for line in service.get("/metrics")[1].splitlines() if line[0] != "#"}

    with serving(STDOUT) as service:
        service.post(STOCK[0])
        before = series(service)
        for number in range(100):
            service.post(json.dumps({**json.loads(STOCK[0]), "rule": f"rule {number}"}).encode())

        assert before == series(service)


def test_prometheus_own_checker_accepts_the_metrics(serving: Serving) -> None:
    promtool = needs("promtool")
    with serving(STDOUT) as service:
        text = service.get("/metrics")[1]
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_metric_has_a_help_text_and_our_prefix(serving: Serving) -> None:
    with serving(STDOUT) as service:
        text = service.get("/metrics")[1]
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)

    assert names
    assert all(name.startswith("falco_correlator_") for name in names)
    assert sorted(names) == sorted(re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE))


def test_how_long_notifications_wait_is_told_while_their_sink_is_away(serving: Serving) -> None:
    nowhere = {"sinks": {"webhook": {"url": "http://127.0.0.1:9/"}}}
    with serving(nowhere) as service:
        assert service.metric('sink_oldest_seconds{sink="webhook"}') == 0.0
        for line in STOCK:
            service.post(line)
        first = service.metric('sink_oldest_seconds{sink="webhook"}')
        wait_until(lambda: service.metric('sink_oldest_seconds{sink="webhook"}') > first)

        assert service.metric('sink_oldest_seconds{sink="webhook"}') < 30


def test_latency_and_memory_are_told(serving: Serving) -> None:
    with serving(STDOUT) as service:
        for line in STOCK:
            service.post(line)

        assert service.metric("http_alert_duration_seconds_count") == len(STOCK)
        assert service.metric('http_alert_duration_seconds_bucket{le="+Inf"}') == len(STOCK)
        assert 0 < service.metric("http_alert_duration_seconds_sum") < 5
        assert 10e6 < service.metric("resident_memory_bytes") < 1e9
        assert abs(service.metric("start_time_seconds") - time.time()) < 3600


def test_a_source_that_has_brought_nothing_yet_is_told_as_zero(serving: Serving) -> None:
    with serving(STDOUT) as service:
        assert service.metric('alerts_received_total{source="http"}') == 0.0
        assert 'source="grpc"' not in service.get("/metrics")[1]
