"""The canary: a process that listens on a TCP port of the loopback for a moment, and has a mark among its arguments.

Falco must report its start, by two rules, and that it listens, which proves that programs which serve are seen. Run as
a script, it imports nothing of ours and starts within a few milliseconds.
"""

import socket

LOOPBACK = "127.0.0.1"


def listen() -> int:
    """Listen on a free port and return it. Falco takes port 0 for that of a test server, so it is bound by number."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((LOOPBACK, port))
        server.listen(1)
    return port


if __name__ == "__main__":
    listen()
