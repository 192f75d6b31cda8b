"""What an answer takes on this machine at this moment: a server that does nothing else, in a process of its own."""

import http.client
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PROGRAM = """
import socket
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
connection, _ = listening.accept()
while connection.recv(65536):
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
"""


@contextmanager
def connected() -> Iterator[http.client.HTTPConnection]:
    """A connection to the bare server; its answers are as late as those of any process that the machine lets wait."""
    process = subprocess.Popen([sys.executable, "-S", "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    connection = http.client.HTTPConnection("127.0.0.1", int(process.stdout.readline()), timeout=60)
    try:
        yield connection
    finally:
        connection.close()
        process.terminate()
        process.wait()
        process.stdout.close()
