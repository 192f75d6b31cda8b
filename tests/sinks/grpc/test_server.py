"""The gRPC server: tools made for Falco's own gRPC output work, everybody gets everything, strangers get nothing.

Covers: `sinks.grpc.listener`, `sinks.grpc.subscribers`.
"""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import DATA, Running, Serving
from support import fake_falco
from support.certificates import make_ca
from support.fake_falco import FakeFalco
from support.falcosidekick import Falcosidekick
from support.waiting import DEADLINE_SECONDS, wait_until

from sidecar._proto.correlator.v1 import incidents_pb2 as v1
from sidecar.rules.loading import SHIPPED

ALERTS = (SHIPPED / "recordings" / "demo.jsonl").read_bytes().splitlines()
"""A recorded attack: an incident that opens as medium and rises to critical."""

CASES = ["Shell Execution Detected", "Full Web Application Compromise"]
CLIENT = Path(__file__).parents[2] / "support" / "stock_client.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Python that grpc_tools makes of Falco's published interface."""
    protoc = pytest.importorskip("grpc_tools.protoc")
    made, source = tmp_path_factory.mktemp("published"), DATA / "falco_interface"
    includes = Path(protoc.__file__).parent / "_proto"
    outs = [f"--python_out={made}", f"--grpc_python_out={made}"]
    assert protoc.main(["protoc", f"-I{source}", f"-I{includes}", *outs, "schema.proto", "outputs.proto"]) == 0
    return made


class StockClient:
    """One client in a process of its own; `events` is what it printed."""

    def __init__(self, published: Path, address: str, way: str, *files: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, CLIENT, address, way, *map(str, files)],
            env={**os.environ, "PYTHONPATH": str(published), "GRPC_VERBOSITY": "NONE"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._error = ""
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout
        assert self.process.stderr
        with self.process.stdout, self.process.stderr:
            for line in self.process.stdout:
                self.events.append(json.loads(line))
            self._error = self.process.stderr.read()

    @property
    def rules(self) -> list[str]:
        return [event["rule"] for event in self.events]

    def end(self) -> str:
        """Kill it, if it has not ended; gives what it said on standard error."""
        if self.process.poll() is None:
            self.process.kill()
        self._reading.join(10)
        self.process.wait(60)
        return self._error


Connect = Callable[..., StockClient]


@pytest.fixture
def connect(published: Path) -> Iterator[Connect]:
    clients = []

    def connected(address: str, way: str = "polls", *files: Path) -> StockClient:
        clients.append(StockClient(published, address, way, *files))
        return clients[-1]

    yield connected
    for client in clients:
        client.end()


def settings(address: str, **more: Any) -> dict[str, Any]:
    return {"sinks": {"grpc": {"address": address, **more}}}


def subscribed(service: Running, count: int) -> None:
    wait_until(lambda: len(service.service.subscribers or ()) == count, seconds=20)


def play(service: Running) -> None:
    """Post alerts, and wait until what follows from them is decided."""
    for alert in ALERTS:
        assert service.post(alert) == 200
    wait_until(lambda: service.service.deliveries[0].counts["sent"] >= 2)


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"unix://{tmp_path}/grpc.sock"


@pytest.mark.parametrize("way", ["polls", "ticks", "once"])
def test_a_stock_client_receives_incidents_however_it_asks(
    serving: Serving, connect: Connect, address: str, way: str
) -> None:
    with serving(settings(address)) as service:
        client = connect(address, way)
        subscribed(service, 1)
        play(service)
        wait_until(lambda: len(client.events) == 2)

    event = next(event for event in client.events if event["rule"] == "Full Web Application Compromise")
    assert (event["priority"], event["source"]) == ("CRITICAL", "syscall")
    assert event["output_fields"]["incident.severity"] == "critical"
    assert "webrce_incident" in event["tags"]


def test_two_subscribers_both_get_everything(serving: Serving, connect: Connect, address: str) -> None:
    with serving(settings(address, alerts="all")) as service:
        clients = [connect(address), connect(address, "once")]
        subscribed(service, 2)
        play(service)
        wait_until(lambda: all(len(client.events) == len(ALERTS) + 2 for client in clients))
        sent = service.metric('grpc_messages_total{kind="incident",outcome="sent"}')

    for client in clients:
        assert sorted(client.rules) == sorted([*CASES, *(json.loads(alert)["rule"] for alert in ALERTS)])
    assert sent == 4


def test_who_was_killed_gets_what_it_missed_when_it_comes_back(
    serving: Serving, connect: Connect, address: str
) -> None:
    with serving(settings(address)) as service:
        first = connect(address)
        subscribed(service, 1)
        first.end()
        subscribed(service, 0)
        play(service)
        again = connect(address)
        wait_until(lambda: len(again.events) == 2)

    assert again.rules == CASES


def test_what_was_decided_before_a_restart_is_given_after_it(
    serving: Serving, connect: Connect, address: str, tmp_path: Path
) -> None:
    kept = {**settings(address), "state": {"path": str(tmp_path / "state.db")}}
    with serving(kept) as service:
        play(service)
    with serving(kept):
        client = connect(address)
        wait_until(lambda: len(client.events) == 2)
        (step, *_) = watch(address, 2)

    assert step.timeline


def test_get_gives_what_is_kept_and_ends_and_takes_it_from_nobody(
    serving: Serving, connect: Connect, address: str
) -> None:
    with serving(settings(address)) as service:
        play(service)
        for _ in range(2):
            client = connect(address, "get")
            client.process.wait(60)
            wait_until(lambda: len(client.events) == 2)  # noqa: B023 - asked before the next turn


def test_raw_alerts_are_as_falco_sent_them_and_ours_are_left_out(
    serving: Serving, connect: Connect, address: str
) -> None:
    ours = json.loads(ALERTS[0]) | {"rule": "Shell by web server", "tags": ["webrce_web_shell"]}
    odd = json.loads(ALERTS[0]) | {"rule": "Odd", "tags": None}
    odd["output_fields"] = {"a": None, "b": True, "c": 1.5, "d": "\u0000\u202e", "proc.pid": 7}
    with serving(settings(address, alerts="others")) as service:
        client = connect(address)
        subscribed(service, 1)
        for alert in (ours, odd):
            service.post(json.dumps(alert).encode())
        service.post(
            b'{"rule": "Bad \xff", "priority": "Warning", "time": "2026-11-24T03:03:08Z", "output_fields": {}}'
        )
        service.post(b"no alert")
        wait_until(lambda: len(client.events) == 2)
        unreadable = service.metric('grpc_messages_total{kind="alert",outcome="unreadable"}')

    assert client.rules == ["Odd", "Bad \N{REPLACEMENT CHARACTER}"]
    assert client.events[0]["output_fields"] == {
        "a": "<NA>",
        "b": "true",
        "c": "1.5",
        "d": "\u0000\u202e",
        "proc.pid": "7",
    }
    assert unreadable == 1


def test_what_came_over_grpc_goes_on_over_grpc_and_is_mended(
    serving: Serving, connect: Connect, address: str, tmp_path: Path
) -> None:
    falco, theirs = FakeFalco(), f"unix://{tmp_path}/falco.sock"
    good = fake_falco.responses(ALERTS[:1])[0]
    read = {"http": {"enabled": False}, "grpc": {"enabled": True, "address": theirs}}
    with fake_falco.running(theirs, falco), serving({**read, **settings(address, alerts="all")}) as service:
        client = connect(address)
        subscribed(service, 1)
        hostname = json.loads(ALERTS[0])["hostname"].encode()
        falco.queue.extend([good, good.replace(hostname, b"\xff" * len(hostname))])
        wait_until(lambda: len(client.events) == 2)

    assert client.events[0]["hostname"] == hostname.decode()
    assert set(client.events[1]["hostname"]) == {"\N{REPLACEMENT CHARACTER}"}


def test_a_correlator_that_is_pointed_at_a_correlator_is_refused(serving: Serving, address: str) -> None:
    circle = {"grpc": {"enabled": True, "address": address.replace("unix://", "unix:")}}
    with serving({**circle, **settings(address, alerts="all")}) as service:
        wait_until(lambda: service.metric('grpc_refused_total{reason="loop"}') > 0)
        play(service)
        refused = service.metric('grpc_refused_total{reason="loop"}')
        wait_until(lambda: service.metric('grpc_refused_total{reason="loop"}') > refused)
        received = service.service.received

    assert (received["http"], received["grpc"]) == (len(ALERTS), 0)


def test_a_slow_subscriber_loses_its_own_alerts_and_holds_up_nobody(
    serving: Serving, connect: Connect, address: str, sidekick: Falcosidekick
) -> None:
    wanted = settings(address, alerts="all", queue_size=50)
    wanted["sinks"]["falcosidekick"] = {"url": sidekick.url}
    big = json.loads(ALERTS[0]) | {"rule": "Big", "output": "x" * 50_000}
    with serving(wanted) as service:
        slow, quick = connect(address, "slow"), connect(address)
        subscribed(service, 2)
        play(service)
        for _ in range(300):
            service.post(json.dumps(big).encode())
        wait_until(lambda: quick.rules.count("Full Web Application Compromise") == 1)
        dropped = service.metric('grpc_messages_total{kind="alert",outcome="dropped"}')
        lost = service.metric('grpc_messages_total{kind="incident",outcome="dropped"}')

    assert dropped > 0
    assert lost == 0
    assert len(slow.events) == 1
    assert len([event for event in sidekick.events if event["rule"] == "Full Web Application Compromise"]) == 1


def test_mutual_tls_serves_friends_and_refuses_strangers(serving: Serving, connect: Connect, tmp_path: Path) -> None:
    ca, port = make_ca(tmp_path), free_port()
    (tmp_path / "other").mkdir()
    stranger = make_ca(tmp_path / "other").issue("friend")
    server, friend, odd = ca.issue("localhost"), ca.issue("friend"), ca.issue("odd")
    tls = {"cert": str(server.cert), "key": str(server.key), "client_ca": str(ca.cert), "allowed_names": ["friend"]}
    with serving(settings(f"127.0.0.1:{port}", tls=tls)) as service:
        play(service)
        outcomes = [
            (client := connect(f"localhost:{port}", "get", ca.cert, *pair), client.process.wait(20), client.end())
            for pair in ((friend.cert, friend.key), (odd.cert, odd.key), (stranger.cert, stranger.key))
        ]
        plain = connect(f"127.0.0.1:{port}", "get")
        plain.process.wait(60)
        refused = service.metric('grpc_refused_total{reason="name"}')

    assert [code for _, code, _ in outcomes] == [0, 1, 1]
    assert len(outcomes[0][0].events) == 2
    assert outcomes[1][2].startswith(
        "PERMISSION_DENIED: this certificate's name is not in sinks.grpc.tls.allowed_names"
    )
    assert outcomes[2][2].startswith("UNAVAILABLE")
    assert plain.end().startswith("UNAVAILABLE")
    assert refused == 1


def test_certificates_that_change_are_used_for_the_next_handshake(
    serving: Serving, connect: Connect, tmp_path: Path
) -> None:
    ca, port = make_ca(tmp_path), free_port()
    (tmp_path / "new").mkdir()
    new = make_ca(tmp_path / "new")
    server, friend = ca.issue("localhost"), new.issue("friend")
    after = new.issue("localhost")
    tls = {"cert": str(server.cert), "key": str(server.key), "client_ca": str(ca.cert)}
    with serving(settings(f"127.0.0.1:{port}", tls=tls)):
        for old, fresh in ((server.cert, after.cert), (server.key, after.key), (ca.cert, new.cert)):
            old.write_bytes(fresh.read_bytes())
        client = connect(f"localhost:{port}", "get", new.cert, friend.cert, friend.key)

        assert (client.process.wait(20), client.end()) == (0, "")


def test_certificates_that_cannot_be_used_do_not_replace_the_good_ones(
    serving: Serving, connect: Connect, tmp_path: Path
) -> None:
    ca, port = make_ca(tmp_path), free_port()
    server, friend = ca.issue("localhost"), ca.issue("friend")
    trusted = tmp_path / "trusted.crt"
    trusted.write_bytes(ca.cert.read_bytes())
    tls = {"cert": str(server.cert), "key": str(server.key), "client_ca": str(trusted)}
    with serving(settings(f"127.0.0.1:{port}", tls=tls)):
        trusted.write_text("half a certifi")
        client = connect(f"localhost:{port}", "get", ca.cert, friend.cert, friend.key)

        assert (client.process.wait(20), client.end()) == (0, "")


def _bytes(data: bytes) -> bytes:
    return data


def test_a_request_that_is_none_is_refused(serving: Serving, address: str) -> None:
    with serving(settings(address)), grpc.insecure_channel(address) as channel:
        watching = channel.unary_stream("/correlator.v1.Incidents/Watch", _bytes, _bytes)
        call: Any = watching(b"\xff\xff", timeout=60)
        with pytest.raises(grpc.RpcError) as raised:
            next(call)

    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_beyond_the_most_subscribers_the_next_is_told_so(serving: Serving, connect: Connect, address: str) -> None:
    with serving(settings(address, max_subscribers=1)) as service:
        connect(address)
        subscribed(service, 1)
        second = connect(address)
        second.process.wait(60)

    assert second.end().startswith("RESOURCE_EXHAUSTED: the maximum number of subscribers")


def watch(address: str, count: int, **wanted: Any) -> list[Any]:
    """The first steps that a watcher of `correlator.v1` gets."""
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_stream(
            "/correlator.v1.Incidents/Watch",
            request_serializer=v1.WatchRequest.SerializeToString,
            response_deserializer=v1.IncidentStep.FromString,
        )(v1.WatchRequest(**wanted), timeout=60)
        return [next(call) for _ in range(count)]


def test_a_step_tells_the_whole_incident(serving: Serving, address: str) -> None:
    with serving(settings(address)) as service:
        play(service)
        steps = watch(address, 2)

    (step,) = [step for step in steps if step.severity == v1.CRITICAL]
    assert step.key == f"{step.incident}:critical:grpc"
    assert (step.case, step.came_from, step.step) == ("Full Web Application Compromise", v1.MEDIUM, 2)
    assert step.place.container_id
    assert [moment.path[-1].name for moment in step.timeline]
    assert "web_shell" in step.timeline[0].groups
    assert step.first.ToNanoseconds() == step.timeline[0].time.ToNanoseconds()
    assert len(step.triage) == 9
    assert step.triage[0].do.startswith("Isolate the workload")


def test_a_watcher_chooses_the_severity_and_goes_on_behind_what_it_has(serving: Serving, address: str) -> None:
    with serving(settings(address)) as service:
        play(service)
        steps = watch(address, 2)
        (critical,) = watch(address, 1, at_least=v1.CRITICAL)
        (behind,) = watch(address, 1, after=steps[0].key)
        unknown = watch(address, 2, after="not:kept")

    assert critical.severity == v1.CRITICAL
    assert behind == steps[1]
    assert [step.key for step in unknown] == [step.key for step in steps]


def test_the_socket_has_its_mode_and_a_stale_one_is_replaced(serving: Serving, address: str, tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with serving(settings(address, socket_mode="group")) as service:
        mode = stat.S_IMODE(path.stat().st_mode)
        play(service)
        assert len(watch(address, 2)) == 2

    assert oct(mode) == "0o660"


def test_a_place_that_cannot_be_had_is_told_and_the_service_goes_on(
    serving: Serving, address: str, tmp_path: Path, sidekick: Falcosidekick
) -> None:
    missing = settings(f"unix://{tmp_path}/missing/grpc.sock")
    missing["sinks"]["falcosidekick"] = {"url": sidekick.url}
    with serving(missing) as service:
        play(service)
        report = next(event for event in sidekick.wait_for(3) if event["rule"] == "Correlator degraded")

    assert f"there is no directory {tmp_path}/missing; create it, or mount one there" in report["output"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_a_living_servers_socket_is_not_taken_away(serving: Serving, address: str, sidekick: Falcosidekick) -> None:
    taken = settings(address)
    taken["sinks"]["falcosidekick"] = {"url": sidekick.url}
    falco = FakeFalco()
    with fake_falco.running(address, falco), serving(taken), grpc.insecure_channel(address) as channel:
        wait_until(lambda: any("another process is listening there" in event["output"] for event in sidekick.events))
        list(
            channel.unary_stream("/falco.outputs.service/get", bytes, bytes)(
                b"", wait_for_ready=True, timeout=DEADLINE_SECONDS
            )
        )

    assert falco.asked == 1
