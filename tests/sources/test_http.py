"""Falco's http_output as its sender, libcurl, does it: kept connection, one POST an alert, large bodies expected.

Covers: `net.http_server`.
"""

import asyncio
import json
import socket
import subprocess
from pathlib import Path

import pytest
from conftest import DATA, Running, Serving, needs
from support.falcosidekick import Falcosidekick
from support.fuzz_targets import Transport

from sidecar.net.admission import Connections
from sidecar.net.http_server import MAX_PIPELINED, OK, Limits, ServerProtocol

pytestmark = pytest.mark.slow

STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()
STDOUT = {"sinks": {"stdout": {"enabled": True}}}


def curl(service: Running, bodies: list[bytes], folder: Path, *options: str) -> list[str]:
    """Send bodies in turn with the options of Falco's outputs_http.cpp; the answers' status and new connections."""
    config = []
    for number, body in enumerate(bodies):
        file = folder / f"{number}.json"
        file.write_bytes(body)
        config += [
            f'url = "http://127.0.0.1:{service.service.http_port}/falco"',
            f'data-binary = "@{file}"',
            'header = "Content-Type: application/json"',
            'user-agent = "falcosecurity/falco"',
            'write-out = "%{http_code} %{num_connects}\\n"',
            *options,
            "next",
        ]
    (folder / "curl.conf").write_text("\n".join(config[:-1]))
    done = subprocess.run(
        [needs("curl"), "--silent", "--show-error", "--config", str(folder / "curl.conf")],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split("\n")[:-1]


def raw(service: Running, data: bytes) -> bytes:
    """Whatever the service answers to these bytes until it closes."""
    with socket.create_connection(("127.0.0.1", service.service.http_port), timeout=60) as connection:
        connection.sendall(data)
        answer = b""
        while more := connection.recv(65536):
            answer += more
    return answer


def test_curl_sends_all_recorded_alerts_over_one_connection_and_the_incidents_come(
    serving: Serving, sidekick: Falcosidekick, tmp_path: Path
) -> None:
    settings = {"sinks": {"falcosidekick": {"url": sidekick.url}}, "pass_through": {"mode": "none"}, "coalesce": "10s"}
    with serving(settings) as service:
        answers = curl(service, STOCK, tmp_path)

    assert ["200 1"] + ["200 0"] * (len(STOCK) - 1) == answers
    assert sorted(event["rule"] for event in sidekick.events) == [
        "Web Shell with Credential Theft",
        *["Web Shell with Network Activity"] * 3,
    ]


def test_a_large_body_is_told_to_continue_at_once(serving: Serving, tmp_path: Path) -> None:
    alert = {**json.loads(STOCK[0]), "output": "x" * 1_200_000}
    with serving(STDOUT) as service:
        answers = curl(service, [json.dumps(alert).encode()], tmp_path, "expect100-timeout = 600")

    assert answers == ["200 1"]


def test_a_redirect_is_never_given_and_any_path_is_taken(serving: Serving) -> None:
    with serving(STDOUT) as service:
        for path in ("/", "/falco", "/a/b?c=d"):
            request = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
            assert raw(service, request.encode()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"405"),
        (b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", b"415"),
        (b"POST / HTTP/1.1\r\nOrigin: https://evil.example\r\nContent-Length: 3\r\n\r\nabc", b"403"),
        (b"POST / HTTP/1.1\r\norigin: null\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc", b"403"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"POST / HTTP/9.9\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nX: " + b"x" * 20_000, b"431"),
        (b"POST / HTTP/1.1\r\n" + b"X: 1\r\n" * 101 + b"\r\n", b"431"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 16_385, b"413"),
        (b"POST / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_alert_is_refused_and_counted(serving: Serving, request_bytes: bytes, status: bytes) -> None:
    with serving(STDOUT) as service:
        assert raw(service, request_bytes).startswith(b"HTTP/1.1 " + status)
        assert service.post(STOCK[0]) == 200


def test_chunked_and_pipelined_requests_are_answered_in_order(serving: Serving) -> None:
    one = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(STOCK[3]), STOCK[3])
    chunks = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in (STOCK[4][:100], STOCK[4][100:])
    )
    last = b"POST / HTTP/1.1\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
    with serving(STDOUT) as service:
        answer = raw(service, one + chunks + b"0\r\n\r\n" + last)

        assert answer.count(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") == 3
        assert service.service.pipeline.detections == 2


def test_too_many_pipelined_requests_are_refused_after_the_first_ones_were_answered(serving: Serving) -> None:
    with serving(STDOUT) as service:
        answer = raw(service, b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}" * 100)

        assert answer.count(b"HTTP/1.1 200 OK") == MAX_PIPELINED
        assert answer.count(b"HTTP/1.1 400 Bad Request") == 1


def test_from_a_peer_that_does_not_read_its_answers_nothing_more_is_read() -> None:
    paused: list[bool] = []

    class Full(Transport):
        def pause_reading(self) -> None:
            paused.append(True)

        def resume_reading(self) -> None:
            paused.append(False)

    async def spoken() -> None:
        protocol = ServerProtocol(lambda _: OK, Limits(100, 5, 5), Connections(8, 8, lambda: 0.0))
        protocol.connection_made(Full())
        protocol.pause_writing()
        protocol.resume_writing()
        protocol.connection_lost(None)

    asyncio.run(spoken())

    assert paused == [True, False]


def test_a_request_that_never_ends_is_cut_off_and_does_not_disturb_others(serving: Serving) -> None:
    with serving({**STDOUT, "http": {"port": 0, "body_timeout": "300ms"}}) as service:
        answer = raw(service, b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nabc")

        assert answer.startswith(b"HTTP/1.1 408 ")
        assert service.post(STOCK[0]) == 200


def test_a_connection_beyond_the_limit_is_answered_and_then_closed(serving: Serving) -> None:
    request = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(STOCK[3]), STOCK[3])
    with serving({**STDOUT, "http": {"port": 0, "max_connections": 1}}) as service:
        assert service.post(STOCK[0]) == 200
        assert raw(service, request) == (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        assert service.post(STOCK[1]) == 200
        assert service.service.pipeline.received == 3


def test_the_answer_comes_while_the_sink_hangs(serving: Serving) -> None:
    hanging = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{hanging.getsockname()[1]}/"
    with serving({"sinks": {"falcosidekick": {"url": url, "timeout": "10m"}}}) as service:
        assert {service.post(line) for line in STOCK} == {200}
    hanging.close()
