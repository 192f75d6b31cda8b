"""A Falcosidekick that takes everything at once and notes when: `sink.py PORT FILE` writes its notes on SIGTERM."""

import asyncio
import signal
import sys
import time
from pathlib import Path

import httptools
import msgspec

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Note(msgspec.Struct, array_like=True):
    """One request: when it was complete (monotonic clock, ns), and its body."""

    at: int
    body: str


class Taking(asyncio.Protocol):
    """One connection."""

    def __init__(self, notes: list[Note]) -> None:
        self._notes = notes
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        self._notes.append(Note(time.monotonic_ns(), self._body.decode()))
        self._body = b""
        self._transport.write(ANSWER)  # type: ignore[attr-defined]


def read(file: Path) -> list[Note]:
    """The notes of a sink that has ended."""
    return msgspec.json.decode(file.read_bytes(), type=list[Note])


async def main(port: int) -> list[Note]:
    """Serve until SIGTERM; gives the notes."""
    notes, stop = list[Note](), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await loop.create_server(lambda: Taking(notes), "127.0.0.1", port)
    await stop.wait()
    return notes


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(msgspec.json.encode(asyncio.run(main(int(sys.argv[1])))))
