"""What the parent process holds and each worker inherits: listening sockets, and memory that survives a worker.

Falco loses an alert when its connection is refused, so the sockets must be there before the first worker and between
two of them.
"""

import errno
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from typing import NoReturn

INHERITED = "FALCO_CORRELATOR_SOCKETS"
"""Environment variable with a worker's sockets and its memory, `http=3,admin=4,memory=5`."""

RUN = "FALCO_CORRELATOR_RUN"
"""Environment variable that is the same for all workers of one supervisor."""

MEMORY = "memory"

BACKLOG = 1024


def opened(addresses: Iterable[tuple[str, str, int]]) -> dict[str, socket.socket]:
    """A listening socket by name for each (name, host, port).

    Raises:
        OSError: an address cannot be used; it names the setting and the remedy.
    """
    return {name: _listen(name, host, port) for name, host, port in addresses}


def problems(addresses: Iterable[tuple[str, str, int]]) -> Iterator[str]:
    """Why these addresses cannot be used, each with its setting and the remedy; it does not listen there."""
    for name, host, port in addresses:
        try:
            _bound(name, host, port).close()
        except OSError as error:
            yield error.strerror or str(error)


def inherited() -> dict[str, socket.socket]:
    """The sockets that the parent process passed on; none without such a parent."""
    return {name: socket.socket(fileno=number) for name, number in _descriptors().items() if name != MEMORY}


def inherited_memory() -> int | None:
    """The descriptor of the memory that the parent process holds for its workers; None without such a parent."""
    return _descriptors().get(MEMORY)


def run_id() -> str:
    """Identifies this run of a supervisor and its workers; "" without a supervisor."""
    return os.environ.get(RUN, "")


def _descriptors() -> dict[str, int]:
    pairs = [pair.split("=") for pair in os.environ.get(INHERITED, "").split(",") if pair]
    return {name: int(number) for name, number in pairs}


def hand_over(sockets: dict[str, socket.socket], arguments: list[str]) -> NoReturn:
    """Become the parent process, which starts `worker.py` with these arguments and the sockets."""
    for listening in sockets.values():
        listening.set_inheritable(True)
    handed = {name: each.fileno() for name, each in sockets.items()}
    if hasattr(os, "memfd_create"):  # Linux; elsewhere raw alerts that wait are lost with the worker
        handed[MEMORY] = os.memfd_create("falco-correlator", 0)
    os.environ[INHERITED] = ",".join(f"{name}={number}" for name, number in handed.items())
    os.environ[RUN] = os.urandom(8).hex()
    worker = [sys.executable, "-m", "sidecar.service.worker", *arguments]
    os.execv(sys.executable, [sys.executable, "-m", "sidecar.service.supervisor", *worker])  # noqa: S606 - without a shell


def _listen(name: str, host: str, port: int) -> socket.socket:
    listening = _bound(name, host, port)
    listening.listen(BACKLOG)
    return listening


def _bound(name: str, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, ValueError) as error:  # ValueError: a host that cannot be written as a domain name
        listening.close()
        raise OSError(getattr(error, "errno", 0), _explained(error, name, host, port)) from None
    return listening


def _explained(error: OSError | ValueError, name: str, host: str, port: int) -> str:
    """Which setting cannot be used, why, and what to do."""
    number = getattr(error, "errno", 0)
    if number == errno.EADDRINUSE:
        return f"{name}.port: {host}:{port} is in use; set another port, or end what listens there"
    if number == errno.EACCES:
        return (
            f"{name}.port: {host}:{port} may not be opened by user id {os.geteuid()}: ports below 1024 need the "
            "capability NET_BIND_SERVICE; grant it, or set a higher port"
        )
    reason = getattr(error, "strerror", "") or error
    return f"{name}.host: {host!r}: {reason}; set an address of this machine, such as 127.0.0.1 or 0.0.0.0"
