"""Places on a port: whoever says nothing makes room, and nobody can keep Falco out."""

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import DATA, Clock
from support.waiting import DEADLINE_SECONDS, wait_until

from sidecar.net.admission import FREE_BODY_BYTES, MAX_BODY_BYTES, MAX_NEWCOMERS, Connections

STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()
BIN = Path(sys.executable).parent


class Fake(asyncio.Transport):
    """A connection from a peer."""

    def __init__(self, peer: str) -> None:
        super().__init__({"peername": (peer, 1)})
        self.ended = False

    def abort(self) -> None:
        self.ended = True


def came(connections: Connections, peer: str, *, brings: bool = True) -> tuple[Fake, bool]:
    """A new connection, whether it brought an alert, and may stay."""
    fake = Fake(peer)
    place = connections.admit(fake)
    return fake, brings and connections.promote(place, connections.clock())


def test_who_brings_nothing_makes_room_for_newcomers_and_touches_nobody_else(clock: Clock) -> None:
    connections = Connections(8, 8, clock)
    falco, stays = came(connections, "127.0.0.1")
    clock.now = 3600.0
    silent = [came(connections, "127.0.0.1", brings=False)[0] for _ in range(10_000)]

    assert stays
    assert not falco.ended
    assert [each.ended for each in silent] == [True] * (10_000 - MAX_NEWCOMERS) + [False] * MAX_NEWCOMERS
    assert (len(connections), connections.evicted) == (1 + MAX_NEWCOMERS, 10_000 - MAX_NEWCOMERS)


def test_a_newcomer_takes_the_place_of_the_longest_idle_of_its_peer(clock: Clock) -> None:
    connections = Connections(10, 2, clock)
    first, second = came(connections, "10.0.0.1")[0], came(connections, "10.0.0.1")[0]
    other = came(connections, "10.0.0.2")[0]
    clock.now = 2.0
    _, stays = came(connections, "10.0.0.1")

    assert stays
    assert [first.ended, second.ended, other.ended] == [True, False, False]


def test_where_nobody_is_idle_a_newcomer_is_answered_and_may_not_stay(clock: Clock) -> None:
    connections = Connections(10, 1, clock)
    falco, _ = came(connections, "10.0.0.1")
    clock.now = 0.9

    assert not came(connections, "10.0.0.1")[1]
    assert not falco.ended
    clock.now = 1.1
    assert came(connections, "10.0.0.1")[1]
    assert falco.ended


def test_one_place_is_kept_for_loopback(clock: Clock) -> None:
    connections = Connections(4, 8, clock)

    assert [came(connections, f"10.0.0.{n}")[1] for n in range(4)] == [True, True, True, False]
    assert [came(connections, "127.0.0.1")[1] for _ in range(2)] == [True, False]


def test_from_outside_nobody_pushes_out_a_connection_on_loopback(clock: Clock) -> None:
    connections = Connections(2, 8, clock)
    falco, _ = came(connections, "127.0.0.1")
    for n in range(20):
        clock.now += 2
        came(connections, f"10.0.0.{n}")

    assert not falco.ended


def test_unfinished_bodies_have_a_budget_that_small_ones_never_meet(clock: Clock) -> None:
    connections = Connections(64, 8, clock)
    places = [connections.admit(Fake(f"10.0.0.{number}")) for number in range(64)]
    fits = [connections.hold(place, 4 * 1024 * 1024) for place in places]

    assert fits.count(True) == MAX_BODY_BYTES // (4 * 1024 * 1024 - FREE_BODY_BYTES)
    assert connections.hold(connections.admit(Fake("127.0.0.1")), FREE_BODY_BYTES)
    for place in places:
        connections.leave(place)
    assert connections.hold(connections.admit(Fake("10.0.0.1")), 4 * 1024 * 1024)


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
        try:
            wait_until(lambda: accepts(port))
            yield port
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(DEADLINE_SECONDS)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("peers", [1, 250])
def test_500_slow_connections_do_not_hold_up_falco(peers: int) -> None:
    """Whoever waited for one of them would wait for ten minutes, and Falco's connection ends after one."""
    with process(HTTP__HEADER_TIMEOUT="10m") as port, ExitStack() as stack:
        falco = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
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
            falco.request("POST", "/", STOCK[number % len(STOCK)])
            assert falco.getresponse().read() == b""
        falco.close()
        newcomers = [one_alert(port) for _ in range(20)]

    assert len(slow) == 500
    assert newcomers == [200] * 20


@pytest.mark.slow
def test_falco_gets_through_while_new_connections_come_as_fast_as_they_can() -> None:
    ending = threading.Event()

    def storm(port: int) -> None:
        held: list[socket.socket] = []
        while not ending.is_set():
            try:
                held.append(socket.create_connection(("127.0.0.1", port), 1))
            except OSError:
                continue
            if len(held) > 300:
                held.pop(0).close()
        for each in held:
            each.close()

    with process() as port:
        thread = threading.Thread(target=storm, args=(port,))
        thread.start()
        answers = [one_alert(port) for _ in range(200)]
        ending.set()
        thread.join()

    assert answers == [200] * 200


def one_alert(port: int) -> int:
    """One alert over a connection of its own."""
    falco = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        falco.request("POST", "/", STOCK[0])
        return falco.getresponse().status
    except OSError:
        return 0
    finally:
        falco.close()
