"""Places on a port: whoever says nothing makes room, and nobody can keep Falco out."""

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import DATA, Clock

from sidecar.connections import Connections

STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()
BIN = Path(sys.executable).parent


class Fake(asyncio.Transport):
    """A connection from a peer."""

    def __init__(self, peer: str) -> None:
        super().__init__({"peername": (peer, 1)})
        self.ended = False

    def abort(self) -> None:
        self.ended = True


def test_beyond_the_limit_of_a_peer_its_longest_silent_connection_makes_room(clock: Clock) -> None:
    connections = Connections(10, 2, clock)
    first, second, third, other = (Fake(peer) for peer in ("10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2"))
    for each in (other, first, second, third):
        assert connections.admit(each)
        clock.now += 0.01

    assert [first.ended, second.ended, third.ended, other.ended] == [True, False, False, False]
    assert (len(connections), connections.pushed_out) == (3, 1)


def test_a_connection_that_brought_an_alert_a_moment_ago_stays_and_the_newcomer_is_refused(clock: Clock) -> None:
    connections = Connections(10, 1, clock)
    falco = Fake("10.0.0.1")
    place = connections.admit(falco)
    assert place
    connections.prove(place)
    clock.now = 0.9
    assert connections.admit(Fake("10.0.0.1")) is None
    clock.now = 1.1
    assert connections.admit(Fake("10.0.0.1"))
    assert falco.ended


def test_silent_newcomers_push_out_each_other_before_one_that_brought_alerts(clock: Clock) -> None:
    connections = Connections(8, 8, clock)
    falco = Fake("127.0.0.1")
    place = connections.admit(falco)
    assert place
    connections.prove(place)
    clock.now = 60.0
    for _ in range(1000):
        clock.now += 0.001
        assert connections.admit(Fake("127.0.0.1"))

    assert not falco.ended


def test_one_place_is_kept_for_loopback(clock: Clock) -> None:
    connections = Connections(4, 8, clock)
    places = [connections.admit(Fake(f"10.0.0.{n}")) for n in range(3)]
    for place in places:
        assert place
        connections.prove(place)

    assert connections.admit(Fake("10.0.0.9")) is None
    assert connections.admit(Fake("127.0.0.1"))


def test_from_outside_nobody_pushes_out_a_connection_on_loopback(clock: Clock) -> None:
    connections = Connections(2, 8, clock)
    falco = Fake("127.0.0.1")
    connections.admit(falco)
    clock.now = 100
    for n in range(20):
        connections.admit(Fake(f"10.0.0.{n}"))
        clock.now += 2

    assert not falco.ended


@contextmanager
def process(**settings: str) -> Iterator[int]:
    """The service in a process of its own; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = {"HTTP__PORT": str(port), "ADMIN__ENABLED": "false", "SINKS__STDOUT__ENABLED": "true", **settings}
    environment = {**os.environ, **{f"FALCO_CORRELATOR_{name}": value for name, value in variables.items()}}
    with subprocess.Popen(
        [BIN / "falco-correlator", "run"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as service:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        try:
            yield port
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(10)


def latencies(port: int, count: int) -> list[float]:
    """Seconds for each of so many alerts over one kept connection, sorted."""
    falco = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    took = []
    for number in range(count):
        began = time.perf_counter()
        falco.request("POST", "/", STOCK[number % len(STOCK)])
        falco.getresponse().read()
        took.append(time.perf_counter() - began)
        time.sleep(0.002)
    falco.close()
    return sorted(took)


@pytest.mark.slow
@pytest.mark.parametrize("peers", [1, 250])
def test_500_slow_connections_do_not_hold_up_falco(peers: int) -> None:
    with process() as port, ExitStack() as stack:
        falco = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        took: list[float] = []
        slow: list[socket.socket] = []
        for number in range(1000):
            if number % 2:
                source = (f"127.0.1.{number % peers}" if peers > 1 else "127.0.0.1", 0)
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5, source))
                connection.setblocking(False)
                slow.append(connection)
            for each in slow[-20:]:
                try:
                    each.send(b"POST / HTTP/1.1\r\n"[number % 17 :][:1])
                except OSError:
                    continue
            began = time.perf_counter()
            falco.request("POST", "/", STOCK[number % len(STOCK)])
            assert falco.getresponse().read() == b""
            took.append(time.perf_counter() - began)
        falco.close()
        took.sort()
        newcomer = latencies(port, 20)

    assert len(slow) == 500
    assert took[990] <= 0.050
    assert newcomer[-1] <= 0.050
