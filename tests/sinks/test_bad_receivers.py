"""Whatever a receiver does, Falco is answered, and a receiver that is well is served."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import DATA, Serving
from support.waiting import wait_until

pytestmark = pytest.mark.slow

STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()


def hangs(connection: socket.socket, done: threading.Event) -> None:
    connection.recv(65536)
    done.wait(60)


def hangs_up(connection: socket.socket, _done: threading.Event) -> None:
    connection.recv(65536)


def half_closes(connection: socket.socket, done: threading.Event) -> None:
    connection.shutdown(socket.SHUT_WR)
    done.wait(60)


def trickles(connection: socket.socket, done: threading.Event) -> None:
    connection.recv(65536)
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":
        if done.wait(1):
            return
        with contextlib.suppress(OSError):
            connection.send(bytes([byte]))


def speaks_nonsense(connection: socket.socket, _done: threading.Event) -> None:
    connection.recv(65536)
    connection.send(b"\x00\xff not HTTP at all\r\n\r\n")


def answers(status: bytes) -> Callable[[socket.socket, threading.Event], None]:
    def answer(connection: socket.socket, _done: threading.Event) -> None:
        while connection.recv(65536):
            connection.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")

    return answer


@contextlib.contextmanager
def receiver(behave: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """A server that treats each connection so."""
    done = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            behave(connection, done)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threads.append(threading.Thread(target=one, args=(connection,)))
                threads[-1].start()

    threads: list[threading.Thread] = [threading.Thread(target=accept)]
    threads[0].start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        done.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for thread in threads:
            thread.join(60)


@pytest.mark.parametrize(
    "behave",
    [hangs, hangs_up, half_closes, trickles, speaks_nonsense, answers(b"500 No"), answers(b"429 Slowly")],
    ids=["hangs", "hangs up", "half-closes", "one byte a second", "nonsense", "500", "429"],
)
def test_a_receiver_that_misbehaves_delays_neither_falco_nor_the_others(
    serving: Serving, tmp_path: Path, behave: Callable[[socket.socket, threading.Event], None]
) -> None:
    sink = tmp_path / "incidents.jsonl"
    with receiver(behave) as url:
        sinks = {"falcosidekick": {"url": url, "timeout": "10m"}, "file": {"path": str(sink)}}
        with serving({"sinks": sinks}) as service:
            assert {service.post(line) for line in STOCK} == {200}
            wait_until(lambda: sink.exists() and sink.read_text().count("\n") == 4)
