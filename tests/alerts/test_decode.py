"""Falco's bytes become alerts in normal form, or a reason.

Covers: `model`.
"""

import json
from typing import Any

import msgspec
import pytest
from conftest import DATA
from hypothesis import given
from hypothesis import strategies as st
from support import fake_falco

from sidecar.alerts import decode
from sidecar.errors import AlertError
from sidecar.model import Alert
from sidecar.sources.grpc import GrpcEnvelope

GOLDEN = DATA.parent / "golden"
STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()


def recorded_responses() -> list[bytes]:
    """The messages of `grpc_responses.bin`: a 4-byte big-endian length before each."""
    data = (DATA / "grpc_responses.bin").read_bytes()
    messages = []
    while data:
        length = int.from_bytes(data[:4], "big")
        messages.append(data[4 : 4 + length])
        data = data[4 + length :]
    return messages


def plain(alert: Alert) -> dict[str, Any]:
    """An alert as the golden files have it: by the names of `Fields`, without what is absent."""
    fields = {name: value for name, value in msgspec.structs.asdict(alert.fields).items() if value is not None}
    return {**msgspec.to_builtins(alert), "fields": fields}


def golden(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (GOLDEN / name).read_text().splitlines()]


def test_recorded_json_alerts_have_their_golden_normal_form() -> None:
    got = [plain(decode.envelope(line).alert()) for line in STOCK]

    assert golden("stock_alerts.normal.jsonl") == json.loads(json.dumps(got))


def test_recorded_grpc_responses_have_their_golden_normal_form() -> None:
    got = [plain(GrpcEnvelope(message).alert()) for message in recorded_responses()]

    assert golden("grpc_responses.normal.jsonl") == json.loads(json.dumps(got))


@pytest.mark.parametrize("line", STOCK[:30], ids=range(30))
def test_the_same_alert_looks_the_same_from_both_transports(line: bytes) -> None:
    over_grpc = GrpcEnvelope(fake_falco.response(json.loads(line)))

    assert plain(decode.envelope(line).alert()) == plain(over_grpc.alert())


@pytest.mark.parametrize(
    ("stamp", "nanoseconds"),
    [
        ("2026-11-24T03:03:08.051762630Z", 1795489388051762630),
        ("2026-11-24T03:03:08.05176263Z", 1795489388051762630),
        ("2026-11-24T03:03:08Z", 1795489388000000000),
        ("2026-11-24T05:03:08.5+02:00", 1795489388500000000),
        ("2026-11-23T22:03:08.123456789012-05:00", 1795489388123456789),
    ],
)
def test_time_keeps_its_nanoseconds(stamp: str, nanoseconds: int) -> None:
    assert nanoseconds == decode.nanoseconds(stamp)


@pytest.mark.parametrize(
    "stamp",
    ["", "now", "2026-11-24T03:03:08", "2026-11-24", "1795489388", "2026-13-24T03:03:08Z", "1969-12-31T23:59:59Z"],
)
def test_what_is_not_a_time_with_zone_is_refused(stamp: str) -> None:
    with pytest.raises(AlertError, match="bad_time"):
        decode.nanoseconds(stamp)


def test_absent_is_none_whether_null_empty_or_na() -> None:
    fields = '{"proc.pid":7,"proc.name":"<NA>","user.name":"","container.name":null,"proc.tty":"<NA>"}'
    alert = decode.envelope(f'{{"rule":"R","time":"2026-11-24T03:03:08Z","output_fields":{fields}}}'.encode()).alert()

    assert (
        alert.fields.pid,
        alert.fields.name,
        alert.fields.user,
        alert.fields.container_name,
        alert.fields.tty,
    ) == (7, None, None, None, None)


@pytest.mark.parametrize("cid", ["host", "", None])
def test_host_empty_and_null_container_are_the_host(cid: str | None) -> None:
    body = {"rule": "R", "time": "2026-11-24T03:03:08Z", "output_fields": {"container.id": cid, "proc.pid": 1}}

    assert decode.envelope(json.dumps(body).encode()).alert().container == ""


def connection(**output_fields: object) -> tuple[str | None, int | None]:
    """The far end that every way in decodes from an alert of a connection: by JSON in two ways, and by gRPC."""
    fields = {"proc.pid": 1, "evt.type": "connect"} | output_fields
    event = {
        "hostname": "n",
        "output_fields": fields,
        "priority": "Notice",
        "rule": "R",
        "source": "syscall",
        "tags": [],
    }
    event["time"] = "2026-11-24T03:03:08.000000000Z"
    body = json.dumps(event, separators=(",", ":")).encode()
    fast = decode.alert(body, "R", ())
    assert fast is not None
    ends = {
        (alert.fields.remote_ip, alert.fields.remote_port)
        for alert in (
            fast,
            decode.envelope(body).alert(),
            decode.envelope(json.dumps(event | {"output_fields": fields | {"user.name": "<NA>"}}).encode()).alert(),
            GrpcEnvelope(fake_falco.response(event)).alert(),
        )
    }
    (end,) = ends
    return end


def test_the_far_end_of_a_connection_is_falcos_server_end() -> None:
    assert connection(**{"fd.sip": "203.0.113.9", "fd.sport": 443, "fd.rip": "10.1.2.3", "fd.rport": 40000}) == (
        "203.0.113.9",
        443,
    )


def test_the_far_end_is_read_under_its_former_name_where_an_older_falco_configuration_sends_no_other() -> None:
    assert connection(**{"fd.rip": "203.0.113.9", "fd.rport": 443}) == ("203.0.113.9", 443)


def test_the_target_of_a_link_is_its_file() -> None:
    fields = decode.from_strings({"proc.pid": "1", "evt.type": "symlinkat", "fs.path.target": "/etc/shadow"})

    assert fields.file == "/etc/shadow"


def test_former_names_leave_no_trace_in_the_normal_form() -> None:
    old = {"proc.pid": 1, "fd.rip": "203.0.113.9", "fd.rport": 443}
    new = {"proc.pid": 1, "fd.sip": "203.0.113.9", "fd.sport": 443}

    assert decode.from_strings({k: str(v) for k, v in old.items()}) == decode.from_strings(
        {k: str(v) for k, v in new.items()}
    )


@pytest.mark.parametrize("address", ["203.0.113.9:4444", "2001:db8::7:4444"])
def test_a_refused_connection_has_its_far_end_from_the_address(address: str) -> None:
    assert connection(**{"evt.arg.addr": address}) == (address.removesuffix(":4444"), 4444)


@pytest.mark.parametrize(
    "address", ["/run/nscd/socket", "/tmp/a:80", "family 16", ":80", "10.0.0.1", "10.0.0.1:99999x"]
)
def test_an_address_that_is_none_of_the_network_is_no_far_end(address: str) -> None:
    assert connection(**{"evt.arg.addr": address}) == (None, None)


def test_the_address_of_another_system_call_is_no_far_end() -> None:
    assert connection(**{"evt.type": "bind", "evt.arg.addr": "0.0.0.0:80"}) == (None, None)


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_give_a_reason(body: bytes) -> None:
    _decoded_or_refused(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(["rule", "time", "output_fields", "tags", "hostname", "priority", "source"])
field_names = st.sampled_from(sorted(decode.KEYS))


@given(st.dictionaries(keys, json_values | st.dictionaries(field_names, json_values), max_size=7))
def test_any_json_object_decodes_or_gives_a_reason(body: dict[str, Any]) -> None:
    _decoded_or_refused(json.dumps(body).encode())


def _decoded_or_refused(body: bytes) -> None:
    try:
        envelope = decode.envelope(decode.replace_bad_utf8(body))
        envelope.check()
        envelope.alert()
    except AlertError:
        pass


@pytest.mark.parametrize("zone", ["Z", "X", "+"])
def test_an_alert_is_decoded_in_one_pass_only_if_its_time_is_utc(zone: str) -> None:
    body = b'{"output_fields":{"proc.pid":7},"time":"2026-11-24T03:07:40.535012431' + zone.encode() + b'"}'

    assert (decode.alert(body, "rule", ()) is not None) == (zone == "Z")
