"""Falco's bytes become alerts in normal form, or a reason."""

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
    """An alert as the golden files have it: without what is absent."""
    built: dict[str, Any] = msgspec.to_builtins(alert)
    built["fields"] = {key: value for key, value in built["fields"].items() if value is not None}
    return built


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
        envelope = decode.envelope(decode.mended(body))
        envelope.check()
        envelope.alert()
    except AlertError:
        pass
