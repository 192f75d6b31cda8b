"""What the gRPC server finds at its address: a dead server's socket file goes, a living server's stays."""

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from sidecar.net import addresses


def test_a_dead_servers_socket_file_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

    addresses.check(f"unix://{path}")

    assert not path.exists()


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_living_servers_socket_file_stays_also_if_the_server_is_busy(tmp_path: Path, *, is_busy: bool) -> None:
    path = tmp_path / "grpc.sock"
    with socket.socket(socket.AF_UNIX) as server, ExitStack() as waiting:
        server.bind(str(path))
        server.listen(0)
        if is_busy:
            _fill_backlog(path, waiting)

        with pytest.raises(OSError, match="another process is listening there"):
            addresses.check(f"unix://{path}")

    assert path.exists()


def _fill_backlog(path: Path, waiting: ExitStack) -> None:
    while True:
        client = waiting.enter_context(socket.socket(socket.AF_UNIX))
        client.setblocking(False)
        try:
            client.connect(str(path))
        except BlockingIOError:
            return
