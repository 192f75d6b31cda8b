"""The stand-in for the Docker engine tells the address of a container."""

import json
import socket
from pathlib import Path

from e2e.docker import Docker


def asked(path: Path, what: str) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(f"GET {what} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    found: dict[str, object] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found


def test_a_container_that_plays_has_the_address(tmp_path: Path) -> None:
    docker = Docker(tmp_path / "docker.sock", ["ab12"], "10.1.2.3")

    assert asked(tmp_path / "docker.sock", "/v1.41/containers/ab12/json")["NetworkSettings"] == {
        "IPAddress": "10.1.2.3",
        "Networks": {"bridge": {"IPAddress": "10.1.2.3", "NetworkID": "n", "EndpointID": "e"}},
        "Ports": {},
    }
    docker.shutdown()
    docker.server_close()


def test_a_container_that_does_not_play_is_unknown(tmp_path: Path) -> None:
    docker = Docker(tmp_path / "docker.sock", [], "10.1.2.3")

    assert asked(tmp_path / "docker.sock", "/v1.41/containers/ab12/json") == {"message": "no such thing"}
    docker.shutdown()
    docker.server_close()
