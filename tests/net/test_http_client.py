"""What a receiver has accepted is not sent again, however it ends its answer.

Covers: `net.http_client`.
"""

import asyncio
import contextlib

import pytest

from sidecar.net.http_client import Client

TIMEOUT = 0.2


class Receiver:
    """A server that sends these pieces for each request; `got` counts requests."""

    def __init__(self, pieces: list[bytes], *, closes: bool) -> None:
        self.pieces, self.closes, self.got = pieces, closes, 0
        self.connections: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(asyncio.current_task())  # type: ignore[arg-type]
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await self._answer(reader, writer)
            while not self.closes:
                await self._answer(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        self.got += 1
        for piece in self.pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)


async def outcome(client: Client) -> object:
    try:
        return await client.post(b"{}")
    except OSError as error:
        return type(error)


def statuses(pieces: list[bytes], *, closes: bool, posts: int = 1, timeout: float = 30.0) -> tuple[list[object], int]:
    """What each post came to at such a server, and how many requests it got."""
    receiver = Receiver(pieces, closes=closes)

    async def run() -> list[object]:
        server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
        client = Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", timeout=timeout)
        outcomes = [await outcome(client) for _ in range(posts)]
        client.close()
        server.close()
        await asyncio.gather(*receiver.connections)
        return outcomes

    return asyncio.run(run()), receiver.got


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\no",
    ],
    ids=["no length", "HTTP/1.0", "cut off", "cut off in a chunk"],
)
def test_a_connection_that_is_closed_after_the_head_of_an_answer_has_answered(answer: bytes) -> None:
    assert statuses([answer], closes=True, posts=2) == ([200, 200], 2)


def test_an_answer_whose_body_never_ends_has_answered_and_is_no_answer_to_the_next_request() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok"

    assert statuses([answer], closes=False, posts=2, timeout=TIMEOUT) == ([200, 200], 2)


def test_a_connection_that_is_closed_within_the_head_has_not_answered() -> None:
    assert statuses([b"HTTP/1.1 200 OK\r\nContent-"], closes=True) == ([ConnectionResetError], 1)


def test_an_answer_in_single_bytes_and_one_after_100_continue_count() -> None:
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
    pieces = [answer[at : at + 1] for at in range(len(answer))]

    assert statuses(pieces, closes=False, posts=2) == ([201, 201], 2)
    assert statuses([b"HTTP/1.1 100 Continue\r\n\r\n"], closes=True) == ([ConnectionResetError], 1)


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    answer = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"

    assert statuses([answer], closes=False, posts=2) == ([307, 307], 2)
