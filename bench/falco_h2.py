"""Falco's gRPC output as fast as a socket takes it: `get` over HTTP/2 frames that are made beforehand.

grpcio as a server costs more than what is to be measured. This one knows just as much HTTP/2 as a grpcio client asks
for; its queue and `get` are those of Falco: one write a message, what is there is sent, then the call ends.
"""

import contextlib
import socket
import struct
import threading
from collections import deque
from pathlib import Path

DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
ACK = END_STREAM = 1
END_HEADERS = 4
PREFACE = 24
READ_AHEAD = 64 * 1024
STATUS = b"\x88\x0f\x10\x10application/grpc"
TRAILER = b"\x00\x0bgrpc-status\x010"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(payload) << 8 | kind) + struct.pack(">BI", flags, stream) + payload


class FastFalco:
    """`queue` holds serialized responses; they are gone as soon as they are sent."""

    def __init__(self, path: Path) -> None:
        self.queue: deque[bytes] = deque()
        self.address = f"unix://{path}"
        self.asked = 0
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            Connection(connection, self).serve()


class Connection:
    """One client: its flow-control windows, and the call that is under way."""

    def __init__(self, connection: socket.socket, falco: FastFalco) -> None:
        self._socket = connection
        self._falco = falco
        self._incoming = connection.makefile("rb", buffering=READ_AHEAD)
        self._window = self._initial = 65_535
        self._streams: dict[int, int] = {}
        self._ready: deque[int] = deque()

    def serve(self) -> None:
        """Until the client leaves."""
        self._read(PREFACE)
        self._socket.sendall(frame(SETTINGS, 0, 0))
        while True:
            self._one()
            while self._ready:
                self._answer(self._ready.popleft())

    def _read(self, count: int) -> bytes:
        data = self._incoming.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def _one(self) -> None:
        """Read one frame, and react."""
        head = self._read(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
        payload = self._read(length)
        if kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == PING and not flags & ACK:
            self._socket.sendall(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            self._widen(stream, int.from_bytes(payload, "big"))
        elif kind == HEADERS:
            self._streams[stream] = self._initial
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            self._ready.append(stream)

    def _settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == 4:
                for stream in self._streams:
                    self._streams[stream] += value - self._initial
                self._initial = value
        self._socket.sendall(frame(SETTINGS, ACK, 0))

    def _widen(self, stream: int, by: int) -> None:
        if stream == 0:
            self._window += by
        elif stream in self._streams:
            self._streams[stream] += by

    def _answer(self, stream: int) -> None:
        """Send what is queued, then the end of the call."""
        self._falco.asked += 1
        self._socket.sendall(frame(HEADERS, END_HEADERS, stream, STATUS))
        queue, send = self._falco.queue, self._socket.sendall
        rest = struct.pack(">BI", 0, stream)
        while queue:
            message = queue.popleft()
            size = len(message) + 5
            while size > min(self._window, self._streams[stream]):
                self._one()
            self._window -= size
            self._streams[stream] -= size
            send(struct.pack(">I", size << 8) + rest + struct.pack(">BI", 0, len(message)) + message)
        send(frame(HEADERS, END_HEADERS | END_STREAM, stream, TRAILER))
        self._streams.pop(stream, None)
