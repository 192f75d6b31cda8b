"""Falco's gRPC output (Falco <= 0.43): the same alerts give the same incidents, and nothing that happens ends it."""

import json
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from alerts.test_decode import recorded_responses
from conftest import DATA, Serving
from support import fake_falco
from support.certificates import make_ca
from support.fake_falco import FakeFalco
from support.falcosidekick import Falcosidekick
from support.waiting import wait_until

from sidecar.alerts import decode
from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents.falco_event import to_json
from sidecar.rules.rule import CorrelationRule
from sidecar.sources.grpc import GrpcEnvelope, take

STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()


def settings(address: str, sidekick: Falcosidekick, **more: Any) -> dict[str, Any]:
    return {
        "http": {"enabled": False},
        "grpc": {"enabled": True, "address": address, **more},
        "sinks": {"falcosidekick": {"url": sidekick.url}},
    }


def test_the_same_alerts_give_the_same_notifications_as_over_http(rules: list[CorrelationRule]) -> None:
    over_http, over_grpc = Pipeline(rules, lambda: 0.0), Pipeline(rules, lambda: 0.0)
    wanted = [note for line in STOCK for note in over_http.process_json(line)[1]] + over_http.flush()
    got = take(over_grpc, fake_falco.responses(STOCK)) + over_grpc.flush()

    assert len(wanted) == 4
    assert [to_json(note) for note in wanted] == [to_json(note) for note in got]


def test_a_bad_message_is_counted_and_the_others_are_used(pipeline: Pipeline) -> None:
    good = fake_falco.responses(STOCK)
    take(pipeline, [b"\xff\xff\xff", *good])

    assert dict(pipeline.reasons) == {"not_json": 1}
    assert len(good) + 1 == pipeline.received


def test_bytes_that_are_not_utf8_are_replaced_and_counted(pipeline: Pipeline) -> None:
    message = fake_falco.response(
        {**_shell(), "output_fields": {**_shell()["output_fields"], "proc.cmdline": "id BAD"}}
    )
    take(pipeline, [message.replace(b"BAD", b"\xff\xfe\xfd")])

    assert (dict(pipeline.reasons), pipeline.detections) == ({"bad_utf8": 1}, 1)


def test_a_number_that_is_none_costs_that_field_only(pipeline: Pipeline) -> None:
    fields = {**_shell()["output_fields"], "proc.pid.ts": "soon", "proc.tty": str(10**26)}
    take(pipeline, [fake_falco.response({**_shell(), "output_fields": fields})])

    assert (dict(pipeline.reasons), pipeline.detections) == ({"bad_field": 1}, 1)


def test_falcos_own_events_are_internal_by_either_field() -> None:
    pipeline_reasons = []
    for source, deprecated in ((b"internal", 0), (b"", 2)):
        envelope = GrpcEnvelope(recorded_responses()[0])
        envelope._response.source, envelope._response.source_deprecated = source, deprecated
        try:
            envelope.check()
        except Exception as error:
            pipeline_reasons.append(str(error))

    assert pipeline_reasons == ["internal", "internal"]


@pytest.mark.parametrize("absent", ["proc.cwd", "container.image.repository"])
@pytest.mark.parametrize("other", ["custom.field", "proc.env"])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_rules_alerts_with_as_many_but_other_fields_keep_all_of_ours(absent: str, other: str, swapped: bool) -> None:
    fields = {**_shell()["output_fields"], "proc.cwd": "/srv", "container.image.repository": "shop"}
    layouts = [fields, {**{name: value for name, value in fields.items() if name != absent}, other: "x"}]
    alerts = [{**_shell(), "rule": f"{absent} {other} {swapped}", "output_fields": layout} for layout in layouts]
    if swapped:
        alerts.reverse()

    for alert in [*alerts, *alerts]:
        over_http = decode.envelope(json.dumps(alert).encode()).alert()
        assert GrpcEnvelope(fake_falco.response(alert)).alert() == over_http


def _shell() -> dict[str, Any]:
    return next(alert for alert in map(json.loads, STOCK) if alert["rule"] == "Run shell untrusted")


@pytest.mark.slow
def test_recorded_responses_over_a_unix_socket_become_their_incidents(
    serving: Serving, sidekick: Falcosidekick, tmp_path: Path
) -> None:
    falco, address = FakeFalco(), f"unix://{tmp_path}/falco.sock"
    falco.queue.extend(recorded_responses())
    with fake_falco.running(address, falco), serving(settings(address, sidekick)) as service:
        events = sidekick.wait_for(2)
        wait_until(lambda: service.service.pipeline.received == len(recorded_responses()))

    assert [event["rule"] for event in events] == ["Shell Execution Detected", "Web Shell with Credential Theft"]
    assert events[0]["output_fields"]["container.id"] == "faa4e3dfca7c"


@pytest.mark.slow
def test_falco_may_come_late_go_away_and_come_back(serving: Serving, sidekick: Falcosidekick, tmp_path: Path) -> None:
    falco, address = FakeFalco(), f"unix://{tmp_path}/falco.sock"
    with serving(settings(address, sidekick)) as service:
        assert service.get("/readyz") == (503, "Falco's gRPC output does not answer\n")
        with fake_falco.running(address, falco):
            wait_until(lambda: service.service.grpc.connected)
            assert service.get("/readyz") == (200, "ok\n")
        wait_until(lambda: not service.service.grpc.connected)
        falco.queue.extend(fake_falco.responses(STOCK))
        with fake_falco.running(address, falco):
            wait_until(lambda: len(sidekick.events) == 4, seconds=30)


@pytest.mark.slow
def test_falco_is_asked_ever_less_often_while_it_has_nothing(
    serving: Serving, sidekick: Falcosidekick, tmp_path: Path
) -> None:
    falco, address = FakeFalco(), f"unix://{tmp_path}/falco.sock"
    times: list[float] = []

    def asked(count: int) -> bool:
        if falco.asked > len(times):
            times.append(time.monotonic())
        return falco.asked >= count

    with fake_falco.running(address, falco), serving(settings(address, sidekick)):
        wait_until(lambda: asked(8))

    assert times[-1] - times[0] > 7 * 0.02  # not every 20 ms: the pause doubles up to 500 ms


@pytest.mark.slow
def test_mutual_tls_is_spoken_to_a_network_address(serving: Serving, sidekick: Falcosidekick, tmp_path: Path) -> None:
    ca = make_ca(tmp_path)
    server, client = ca.issue("localhost"), ca.issue("falco-correlator")
    credentials = grpc.ssl_server_credentials(
        [(server.key.read_bytes(), server.cert.read_bytes())], ca.cert.read_bytes(), require_client_auth=True
    )
    falco = FakeFalco()
    falco.queue.extend(fake_falco.responses(STOCK))
    with fake_falco.running("localhost:0", falco, credentials) as port:
        files = {"ca": str(ca.cert), "cert": str(client.cert), "key": str(client.key)}
        with serving(settings(f"localhost:{port}", sidekick, **files)):
            assert len(sidekick.wait_for(4)) == 4
