"""What gRPC subscribers are sent is valid whatever an attacker typed, and their settings are judged before they start."""

import asyncio
from pathlib import Path

import pytest
from conftest import Play, spec
from hypothesis import given
from hypothesis import strategies as st
from support.hostile_corpus import json_inputs, protobuf_inputs
from support.injections import INJECTIONS

from sidecar._proto.correlator.v1 import incidents_pb2 as v1
from sidecar._proto.falco import outputs_pb2
from sidecar.errors import ConfigError
from sidecar.incidents.falco_event import to_json
from sidecar.model import Notification, Outgoing, delivery_key
from sidecar.net import addresses
from sidecar.settings.loading import load
from sidecar.settings.sinks import GrpcSinkSettings
from sidecar.sinks.grpc import protobuf
from sidecar.sinks.grpc.subscribers import Subscriber, Subscribers


def texts(message: bytes) -> list[bytes]:
    """Every text of a `falco.outputs.response`."""
    made = outputs_pb2.response.FromString(message)
    return [made.rule, made.output, made.hostname, made.source, *made.tags, *made.output_fields.values()]


def is_utf8(data: bytes) -> bool:
    return data.decode("utf-8", "ignore").encode() == data


def test_every_kept_bad_input_becomes_valid_or_is_refused() -> None:
    made = 0
    for encode, inputs in ((protobuf.response, json_inputs()), (protobuf.with_valid_text, protobuf_inputs())):
        for name, data in inputs:
            try:
                message = encode(data)
            except ValueError:
                continue
            made += 1
            assert all(map(is_utf8, texts(message))), name

    assert made > 100


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=30))
def test_bytes_that_are_no_text_are_replaced_in_every_field(values: list[bytes]) -> None:
    fields = {f"field.{number}": value for number, value in enumerate(values)}
    message = outputs_pb2.response(rule=values[0], output=values[0], hostname=values[0], output_fields=fields)
    message.tags.extend(values)
    response = protobuf.with_valid_text(message.SerializeToString())

    assert all(map(is_utf8, texts(response)))
    assert len(texts(response)) == 4 + 2 * len(values)


@pytest.mark.parametrize("hostile", [*INJECTIONS[:40], "\x00", "\u202e"])
def test_a_step_with_hostile_text_parses_and_shows_it_as_escapes(play: Play, hostile: str) -> None:
    (note,) = play(
        spec("nginx > sh", "web_shell", fields={"proc.cmdline": f"sh -c {hostile}"}),
        spec("nginx > sh > curl", "network", at="1s"),
    )
    step = v1.IncidentStep.FromString(protobuf.step("key", note))

    assert step.timeline[0].command.isprintable()
    assert step.timeline[0].command.startswith("sh -c")


class Reader:
    """Joins, takes what comes until the end, and remembers it."""

    def __init__(self, subscribers: Subscribers, *, room: int = 10, alerts: bool = True) -> None:
        self.got: list[tuple[str, bytes]] = []
        self._subscribers = subscribers
        self._reader = Subscriber(lambda item: item.body, room=room, alerts=alerts)

    async def run(self) -> None:
        with self._subscribers.joined(self._reader):
            async for pair in self._reader:
                self.got.append(pair)


def outgoing(number: int) -> Outgoing:
    return Outgoing(f"incident-{number}:medium:grpc", f"{number}".encode(), None)


async def read(subscribers: Subscribers, *readers: Reader, messages: int = 3, alerts: int = 0) -> None:
    tasks = [asyncio.create_task(reader.run()) for reader in readers]
    await asyncio.sleep(0)
    for number in range(messages):
        await subscribers.send(outgoing(number))
    for number in range(alerts):
        subscribers.alert(f"alert {number}".encode())
    subscribers.close()
    await asyncio.gather(*tasks)


def test_each_reader_gets_everything_and_incidents_before_alerts() -> None:
    subscribers = Subscribers(GrpcSinkSettings())
    readers = [Reader(subscribers), Reader(subscribers), Reader(subscribers, alerts=False)]
    asyncio.run(read(subscribers, *readers, alerts=2))

    incidents = [("incident", b"0"), ("incident", b"1"), ("incident", b"2")]
    assert readers[0].got == readers[1].got == [*incidents, ("alert", b"alert 0"), ("alert", b"alert 1")]
    assert readers[2].got == incidents


def test_a_full_queue_loses_its_oldest_and_counts_and_alerts_push_out_no_incident() -> None:
    subscribers = Subscribers(GrpcSinkSettings())
    small = Reader(subscribers, room=2)
    asyncio.run(read(subscribers, small, messages=3, alerts=9))

    assert small.got == [("incident", b"1"), ("incident", b"2"), ("alert", b"alert 7"), ("alert", b"alert 8")]
    assert (subscribers.counts["incident", "dropped"], subscribers.counts["alert", "dropped"]) == (1, 7)


def test_the_same_key_is_kept_once() -> None:
    subscribers = Subscribers(GrpcSinkSettings())
    for _ in range(2):
        asyncio.run(subscribers.send(outgoing(1)))

    assert [item.body for item in subscribers.history()] == [b"1"]


def test_a_newcomer_gets_what_is_recent_and_behind_a_key_everything() -> None:
    now = 10**18
    subscribers = Subscribers(GrpcSinkSettings(history_size=3), wall=lambda: now)
    for number in range(5):
        now += 1_800_000_000_000
        asyncio.run(subscribers.send(outgoing(number)))

    def bodies(items: list[Outgoing]) -> list[bytes]:
        return [item.body for item in items]

    assert bodies(subscribers.history()) == [b"2", b"3", b"4"]
    now += 1_800_000_000_001
    assert bodies(subscribers.history()) == [b"4"]
    assert bodies(subscribers.history("incident-3:medium:grpc")) == [b"4"]
    assert bodies(subscribers.history("incident-4:medium:grpc")) == []
    assert bodies(subscribers.history("unknown")) == [b"2", b"3", b"4"]


def test_what_is_restored_is_kept_under_the_key_of_its_delivery(play: Play) -> None:
    notes: list[Notification] = play(
        spec("nginx > sh", "web_shell"),
        spec("nginx > sh > curl", "network", at="1s"),
    )
    key = delivery_key(notes[0], "grpc")
    now = 10**18
    subscribers = Subscribers(GrpcSinkSettings(), wall=lambda: now)
    subscribers.restore(notes, {key: 10**9 - 3600})

    assert subscribers.history() == [Outgoing(key, to_json(notes[0]), notes[0])]
    now += 1
    assert not subscribers.history(), "its age counts from the decision, not from the restart"


def problems(tmp_path: Path, grpc: str, more: str = "") -> list[str]:
    file = tmp_path / "settings.yaml"
    file.write_text(f"sinks: {{grpc: {grpc}}}\n{more}")
    try:
        load(file, {})
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    "grpc",
    [
        "{address: unix:///run/x.sock}",
        "{address: 'localhost:5060', insecure: true}",
        "{address: '[::1]:1', insecure: true}",
    ],
)
def test_a_socket_or_an_insecure_loopback_port_is_enough_and_is_a_sink(tmp_path: Path, grpc: str) -> None:
    assert problems(tmp_path, grpc) == []


@pytest.mark.parametrize(
    ("grpc", "expected"),
    [
        ("{address: '127.0.0.1:5060'}", "set sinks.grpc.insecure: true"),
        (
            "{address: '0.0.0.0:5060', insecure: true}",
            "can be reached from other machines: sinks.grpc.tls.cert, key and client_ca",
        ),
        ("{address: '10.0.0.1:5060'}", "can be reached from other machines"),
        ("{address: here}", "expected unix:///path or host:port, got 'here'"),
        ("{address: 'unix:relative.sock'}", "expected unix:///path or host:port"),
        ("{address: 'localhost:99999'}", "expected unix:///path or host:port"),
        ("{address: unix:///a, history_size: 0}", "sinks.grpc.history_size: expected a whole number >= 1"),
        ("{address: unix:///a, tls: {cert: x}}", "sinks.grpc.tls.cert, sinks.grpc.tls.key: both are needed"),
        ("{address: unix:///a, socket_mode: 0660}", "sinks.grpc.socket_mode"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(tmp_path: Path, grpc: str, expected: str) -> None:
    (problem,) = problems(tmp_path, grpc)

    assert expected in problem


def test_reading_our_own_server_is_a_mistake(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "{address: unix:///a.sock}", "grpc: {enabled: true, address: unix:///a.sock}\n")

    assert "sinks.grpc.address: unix:///a.sock is also grpc.address, where Falco is read, which makes a loop" in problem


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("unix://{}/missing/a", "there is no directory"),
        ("unix://{}/file", "the file exists and is not a socket"),
        ("192.0.2.1:1", "192.0.2.1:1: "),
    ],
)
def test_an_address_that_cannot_be_had_is_told_before_the_service_starts(
    tmp_path: Path, place: str, expected: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=expected):
        addresses.check(place.format(tmp_path))
