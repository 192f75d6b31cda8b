"""The real Falcosidekick, whose outputs end at receivers on loopback.

Its program cannot be had from a package registry, so it is named by `FALCOSIDEKICK=` or found on PATH, and the tests
that need it are skipped where it is not, also in CI.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from service.test_supervisor import free_port
from support.certificates import make_ca
from support.falcosidekick import whole_number
from support.waiting import wait_until

PAGERDUTY, OPSGENIE = "events.pagerduty.com", "api.opsgenie.com"
"""Hosts that Falcosidekick's outputs have built in: they are reached through a proxy, which is us."""

Answer = Callable[[Any], tuple[int, Any]]
"""What a receiver answers to a body: the status, and a body of its own."""


def binary() -> str:
    """The path of the program; the test is skipped without it."""
    path = os.environ.get("FALCOSIDEKICK") or shutil.which("falcosidekick")
    if not path:
        pytest.skip("the real Falcosidekick is not here: name its program with FALCOSIDEKICK=")
    return path


class Receivers:
    """HTTP for every output, by the first part of the path or the host behind the proxy, and syslog over TCP.

    `bodies` are what arrived, `answers` what to answer, by the same name; 200 and nothing by default.
    """

    def __init__(self, folder: Path) -> None:
        self.bodies: dict[str, list[Any]] = defaultdict(list)
        self.answers: dict[str, Answer] = {}
        authority = make_ca(folder)
        self.authority = authority.cert
        self._tls = {}
        for host in (PAGERDUTY, OPSGENIE):
            self._tls[host] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls[host].load_cert_chain(*authority.issue(host))
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = False  # closing waits for the connections, which end with Falcosidekick
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._syslog = socket.create_server(("127.0.0.1", 0))
        self.syslog_port: int = self._syslog.getsockname()[1]
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        threading.Thread(target=self._take_syslog, daemon=True).start()

    def take(self, name: str, body: bytes) -> tuple[int, bytes]:
        """Keep a body, and give status and body of the answer."""
        with self._lock:
            decoded = json.loads(body, parse_int=whole_number) if body else None
            self.bodies[name].append(decoded)
            answers = self.answers.get(name)
            status, answer = answers(decoded) if answers else (200, {})
            return status, json.dumps(answer).encode()

    def tls(self, host: str) -> ssl.SSLContext:
        """What one of the built-in hosts identifies itself with."""
        return self._tls[host]

    def _take_syslog(self) -> None:
        while True:
            try:
                connection, _ = self._syslog.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    self.take("syslog", line[line.index(b"{") :])

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._syslog.close()


def _handler(receivers: Receivers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1
        host = ""

        def do_CONNECT(self) -> None:
            self.host = self.path.partition(":")[0]
            self.connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            self.rfile.close()
            self.wfile.close()
            self.connection = receivers.tls(self.host).wrap_socket(self.connection, server_side=True)
            self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
            self.close_connection = False

        def finish(self) -> None:
            super().finish()
            self.connection.close()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = receivers.take(self.host or self.path.split("/")[1], body)
            self.send_response(202 if self.host else status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_PUT(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def outputs(receivers: Receivers) -> dict[str, Any]:
    """Settings that turn on every output that we speak of."""
    return {
        "webhook": {"address": f"{receivers.url}/webhook"},
        "alertmanager": {"hostport": f"{receivers.url}/alertmanager", "endpoint": "/api/v2/alerts"},
        "elasticsearch": {"hostport": f"{receivers.url}/elasticsearch", "suffix": "none"},
        "loki": {"hostport": f"{receivers.url}/loki"},
        "slack": {"webhookurl": f"{receivers.url}/slack"},
        "teams": {"webhookurl": f"{receivers.url}/teams"},
        "discord": {"webhookurl": f"{receivers.url}/discord"},
        "pagerduty": {"routingkey": "key"},
        "opsgenie": {"apikey": "key", "region": "us"},
        "syslog": {"host": "127.0.0.1", "port": str(receivers.syslog_port), "protocol": "tcp"},
    }


class RealFalcosidekick:
    """A running Falcosidekick."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def post(self, body: bytes) -> int | str:
        """The status, or `connection_dropped` if its handler died."""
        try:
            self._connection.request("POST", "/", body)
            answer = self._connection.getresponse()
            answer.read()
        except (HTTPException, ConnectionError):
            self._connection.close()
            return "connection_dropped"
        return answer.status

    def close(self) -> None:
        """Drop the connection that alerts are posted over."""
        self._connection.close()

    def metrics(self) -> str:
        """Its own /metrics."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as answer:  # noqa: S310 - ours
            text: str = answer.read().decode()
        return text

    def sent(self) -> dict[tuple[str, str], int]:
        """How many events each output has dealt with, by its name and `ok` or `error`."""
        pattern = r'falcosidekick_outputs_total\{destination="([^"]+)",status="([^"]+)"\} (\S+)'
        return {(name, status): int(float(count)) for name, status, count in re.findall(pattern, self.metrics())}

    def wait_for(self, count: int, *names: str) -> None:
        """Wait until the outputs have dealt with so many events each."""

        def are_done() -> bool:
            sent = self.sent()
            return all(sent.get((name, "ok"), 0) + sent.get((name, "error"), 0) >= count for name in names)

        wait_until(are_done, 120)


@contextlib.contextmanager
def running(
    folder: Path, settings: Mapping[str, Any], receivers: Receivers, port: int = 0
) -> Iterator[RealFalcosidekick]:
    """Falcosidekick with these settings on a port of loopback, by default any free one."""
    port = port or free_port()
    file = folder / "falcosidekick.yaml"
    file.write_text(yaml.safe_dump({"listenaddress": "127.0.0.1", "listenport": port, **settings}))
    proxy = {"HTTPS_PROXY": receivers.url, "SSL_CERT_FILE": str(receivers.authority), "SSL_CERT_DIR": "/nonexistent"}
    with (folder / "falcosidekick.log").open("wb") as log:
        process = subprocess.Popen([binary(), "-c", file], stdout=log, stderr=log, env={"PATH": "/usr/bin", **proxy})
    real = RealFalcosidekick(port)
    try:
        wait_until(lambda: _answers(real.url), 60)
        yield real
    finally:
        real.close()
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=5):  # noqa: S310 - ours
            return True
    except OSError:
        return False
