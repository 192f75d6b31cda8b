"""Checks whether the gRPC server will be able to listen on an address.

grpc itself would remove the socket file of a running server, and reports every problem as "failed to bind". It is not
imported here, so that the command can check before the service starts.
"""

import os
import socket
from pathlib import Path


def check(address: str) -> None:
    """Raise OSError if the address cannot be used; the socket file of a server that died is removed."""
    if not address.startswith("unix:"):
        _try_port(address)
        return
    path = socket_path(address)
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OSError(f"{address}: there is no directory {folder}; create it, or mount one there")
    if not os.access(folder, os.W_OK):
        raise OSError(f"{address}: the directory {folder} cannot be written by user id {os.geteuid()}")
    if path.exists() and not path.is_socket():
        raise OSError(f"{address}: the file exists and is not a socket; move it away")
    if path.exists() and _is_alive(path):
        raise OSError(f"{address}: another process is listening there")
    path.unlink(missing_ok=True)


def _is_alive(path: Path) -> bool:
    """Whether a process listens on a socket file.

    Only a refused connection proves that none does: a server that is busy, or another user's, fails in other ways.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # a server whose backlog is full would make it wait
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _try_port(address: str) -> None:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise OSError(f"{address}: {error.strerror or error}") from None


def socket_path(address: str) -> Path:
    """The file of `unix:///path` or `unix:/path`."""
    rest = address.removeprefix("unix:")
    return Path(rest.removeprefix("//") if rest.startswith("//") else rest)
