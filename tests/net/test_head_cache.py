"""A head that is known again is understood exactly as llhttp understands it, or left to llhttp."""

import asyncio
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.fuzz_targets import Transport

from sidecar.net.admission import Connections
from sidecar.net.head_cache import MAX_HEAD_BYTES, Head
from sidecar.net.http_server import OK, Limits, Request, Response, ServerProtocol
from sidecar.net.secret_path import SecretPath

FALCO = (
    b"POST /f HTTP/1.1\r\nHost: a:2801\r\nUser-Agent: falcosecurity/falco\r\nContent-Length: %s\r\nAccept: */*\r\n\r\n"
)
MOST = 40
LIMITS = Limits(MOST, 5, 5)
SECRET = "/4f1c0a7e-secret-path"  # noqa: S105 - of this test only


class Seen(NamedTuple):
    """What a peer and the service can tell of a conversation."""

    answers: bytes
    taken: list[bytes]
    closed: bool
    refused: dict[str, int]
    kept: int


class Slot(NamedTuple):
    """A connection in use, and how many requests it brought by a head that was known."""

    protocol: ServerProtocol
    transport: Transport
    taken: list[bytes]
    again: list[bytes]
    connections: Connections


def place(*, remembers: bool, secret: str = "", per_peer: int = 8) -> Slot:
    taken: list[bytes] = []
    again: list[bytes] = []

    def answer(request: Request) -> Response:
        if request.method != "POST":
            return Response("405 Method Not Allowed")
        taken.append(request.body)
        return OK

    def take(body: bytes) -> float:
        taken.append(body)
        again.append(body)
        return 0.0

    connections, transport = Connections(8, per_peer, lambda: 0.0), Transport()
    gate = SecretPath(secret)
    protocol = ServerProtocol(answer, LIMITS, connections, gate, take if remembers else None)
    protocol.connection_made(transport)
    return Slot(protocol, transport, taken, again, connections)


async def spoken(chunks: list[bytes], made: Slot) -> list[Seen]:
    """What can be observed after each chunk."""
    observations = []
    for chunk in chunks:
        if not made.transport.closed:
            made.protocol.data_received(chunk)
        answers = b"".join(made.transport.sent)
        refused = dict(made.connections.refused)
        observations.append(Seen(answers, [*made.taken], made.transport.closed, refused, len(made.connections)))
    made.protocol.connection_lost(None)
    return observations


def talk(chunks: list[bytes], *, remembers: bool = True, secret: str = "", per_peer: int = 8) -> tuple[Seen, int]:
    """What can be observed at the end, and how many requests came by a head that was known."""

    async def run() -> tuple[Seen, int]:
        made = place(remembers=remembers, secret=secret, per_peer=per_peer)
        return (await spoken(chunks, made))[-1], len(made.again)

    return asyncio.run(run())


def sent(body: bytes, head: bytes = FALCO) -> bytes:
    return head % str(len(body)).encode() + body


BODIES = st.sampled_from(
    [b"", b"{}", b"x" * MOST, b"x" * (MOST + 1), b"\r\n\r\n", b"\n\n", b"\r\n", b"POST / HTTP/1.1\r\n\r\n"]
)
LENGTHS = st.sampled_from(
    [b"%d", b"%d", b"%d", b"0%d", b"0000%d", b"000000000%d", b"+%d", b"%d ", b"%d0", b"%d\r\nX: 1"]
)
HEADS = st.sampled_from(
    [
        FALCO,
        FALCO,
        FALCO.replace(b"Content-Length: ", b"content-length:\t"),
        FALCO.replace(b"Content-Length", b"Content-Length: 2\r\nContent-Length"),
        FALCO.replace(b"Accept: */*", b"Content-Length: 2"),
        FALCO.replace(b"Accept: */*", b"Transfer-Encoding: chunked"),
        FALCO.replace(b"Accept: */*", b"Connection: close"),
        FALCO.replace(b"Accept: */*", b"Expect: 100-continue"),
        FALCO.replace(b"Accept: */*", b"Content-Encoding: gzip"),
        FALCO.replace(b"Accept: */*", b"Upgrade: h2c\r\nConnection: upgrade"),
        FALCO.replace(b"POST", b"GET"),
        FALCO.replace(b"POST", b"HEAD"),
        FALCO.replace(b"/1.1", b"/1.0"),
        FALCO.replace(b"/f", b"/other"),
        FALCO.replace(b"/f", SECRET.encode()),
        FALCO.replace(b"\r\n", b"\n"),
        FALCO.replace(b"*/*\r\n\r\n", b"*/*\n\n"),
        b"\r\n" + FALCO,
        FALCO.replace(b"\r\nAccept: */*", b"\r\n 5"),
    ]
)
BEHIND = st.sampled_from([b"", b"", b"", b"\r\n", b"\r\n\r\n", b"\n", b"x", b"PO"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One request, or what looks like one; the length may be wrong, or written oddly."""
    body = draw(BODIES)
    written = draw(LENGTHS) % max(len(body) + draw(st.sampled_from([0, 0, 0, 0, 1, -1])), 0)
    return draw(HEADS) % written + body + draw(BEHIND)


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Requests as they come from a socket: mostly whole, else cut or glued together anywhere."""
    whole = draw(st.lists(requests(), min_size=1, max_size=8))
    if draw(st.booleans()):
        return whole
    stream = b"".join(whole)
    cuts = sorted(draw(st.sets(st.integers(1, max(len(stream) - 1, 1)), max_size=6)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]


@given(conversations(), st.sampled_from(["", SECRET]), st.sampled_from([0, 8]))
@example([sent(b"{}"), sent(b"abc"), sent(b"d") + sent(b"e"), sent(b"f")], "", 8)
@example([sent(b"{}"), sent(b"x" * (MOST + 1))], "", 8)
def test_with_and_without_a_known_head_the_answers_and_the_alerts_are_the_same_after_each_chunk(
    chunks: list[bytes], secret: str, per_peer: int
) -> None:
    async def both() -> tuple[list[Seen], list[Seen]]:
        ways = [place(remembers=remembers, secret=secret, per_peer=per_peer) for remembers in (True, False)]
        first, second = [await spoken(chunks, way) for way in ways]
        return first, second

    first, second = asyncio.run(both())

    assert first == second


def test_from_the_second_request_on_a_head_is_known_whatever_the_length() -> None:
    bodies = [b"{}", b"", b"x" * 39, b"{}"]

    seen, known = talk([sent(body) for body in bodies])

    assert seen.taken == bodies
    assert known == 3


def test_another_head_is_parsed_and_then_known_itself() -> None:
    other = FALCO.replace(b"/f", b"/g")

    seen, known = talk([sent(b"1"), sent(b"2", other), sent(b"3", other), sent(b"4")])

    assert seen.taken == [b"1", b"2", b"3", b"4"]
    assert known == 1


@pytest.mark.parametrize(
    "head",
    [
        FALCO.replace(b"/f", b"/" + b"f" * MAX_HEAD_BYTES),
        FALCO.replace(b"Accept: */*", b"Expect: 100-continue"),
        FALCO.replace(b"Content-Length: %s", b"Transfer-Encoding: chunked"),
    ],
)
def test_what_is_long_or_odd_is_not_remembered(head: bytes) -> None:
    request = head % b"2" + b"{}" if b"%s" in head else head + b"2\r\n{}\r\n0\r\n\r\n"

    seen, known = talk([request] * 3)

    assert (seen.taken, known) == ([b"{}"] * 3, 0)


def test_an_answer_that_is_not_ok_is_not_repeated() -> None:
    seen, known = talk([sent(b"", FALCO.replace(b"POST", b"GET"))] * 3)

    assert seen.answers.count(b"HTTP/1.1 405") == 3
    assert known == 0


def test_between_two_halves_of_a_request_no_head_is_known() -> None:
    inner = sent(b"no")
    request = sent(inner[:MOST])

    seen, known = talk([sent(b"a"), request[:-MOST], request[-MOST:], sent(b"b")])

    assert seen.taken == [b"a", inner[:MOST], b"b"]
    assert known == 0


def test_a_length_in_the_head_that_is_not_that_of_the_body_gives_no_head() -> None:
    assert Head.parse(sent(b"abc"), b"bc") is None
    assert Head.parse(sent(b"abc"), b"abc") is not None
    assert Head.parse(sent(b"\r\n\r\nabc"), b"abc") is None


@pytest.mark.parametrize("line_end", [b"\n", b"\n\r\n"])
def test_a_head_in_which_a_line_ends_without_a_carriage_return_gives_no_head(line_end: bytes) -> None:
    head = FALCO.replace(b"falco\r\nContent", b"falco" + line_end + b"X: y\r\nContent")

    assert Head.parse(sent(b"abc", head), b"abc") is None
