"""Receivers with a certificate of one's own authority, and such that ask for a client certificate."""

import shutil
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA, Serving, spec
from support.certificates import Authority, make_ca
from support.waiting import wait_until

from sidecar.cli.testing.stories import alerts
from sidecar.errors import ConfigError
from sidecar.rules.rule import CorrelationRule
from sidecar.settings.loading import load

pytestmark = pytest.mark.slow

STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()


class Receiver:
    """Takes posts over TLS from clients with a certificate of the authority."""

    def __init__(self, authority: Authority) -> None:
        self.bodies: list[bytes] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("falcosidekick"))
        context.load_verify_locations(authority.cert)
        context.verify_mode = ssl.CERT_REQUIRED
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}/"


@contextmanager
def receiving(authority: Authority) -> Iterator[Receiver]:
    receiver = Receiver(authority)
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()


def tls_of(authority: Authority) -> dict[str, Any]:
    pair = authority.issue("falco-correlator")
    return {"ca": str(authority.cert), "cert": str(pair.cert), "key": str(pair.key)}


def test_incidents_and_raw_alerts_reach_a_falcosidekick_that_asks_for_a_certificate(
    serving: Serving, rule: CorrelationRule, tmp_path: Path
) -> None:
    authority = make_ca(tmp_path)
    story = [spec("nginx > sh", "web_shell"), spec("nginx > sh > curl", "network", at="1s")]
    with receiving(authority) as receiver:
        settings = {"sinks": {"falcosidekick": {"url": receiver.url, "tls": tls_of(authority)}}}
        with serving(settings) as service:
            for body in [STOCK[0], *alerts(rule, story)]:
                service.post(body)
            wait_until(lambda: len(receiver.bodies) == 2)

    assert STOCK[0] in receiver.bodies
    assert any(b'"incident.id"' in body for body in receiver.bodies)


def test_incidents_reach_a_webhook_whose_authority_was_renewed_meanwhile(
    serving: Serving, rule: CorrelationRule, tmp_path: Path
) -> None:
    for name in ("old", "new", "mounted"):
        (tmp_path / name).mkdir()
    old, new = make_ca(tmp_path / "old"), make_ca(tmp_path / "new")
    mounted = {key: tmp_path / "mounted" / key for key in ("ca", "cert", "key")}
    for key, file in tls_of(old).items():
        shutil.copy(file, mounted[key])
    story = [spec("nginx > sh", "web_shell"), spec("nginx > sh > curl", "network", at="1s")]
    with receiving(new) as receiver:
        tls = {key: str(path) for key, path in mounted.items()}
        settings = {"sinks": {"webhook": {"url": receiver.url, "tls": tls}}, "pass_through": {"mode": "none"}}
        with serving(settings) as service:
            for body in alerts(rule, story):
                service.post(body)
            wait_until(lambda: service.metric('sink_notifications_total{outcome="failed",sink="webhook"}') > 0)
            for key, file in tls_of(new).items():
                shutil.copy(file, mounted[key])
            wait_until(lambda: receiver.bodies)


@pytest.mark.parametrize(
    ("tls", "mistake"),
    [
        ("{ca: /nope}", "sinks.falcosidekick.tls.ca: '/nope' cannot be read: "),
        ("{cert: /nope}", "sinks.falcosidekick.tls.cert, sinks.falcosidekick.tls.key: both are needed"),
    ],
)
def test_files_that_cannot_be_used_are_mistakes(tls: str, mistake: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"sinks: {{falcosidekick: {{url: 'https://f:2801', tls: {tls}}}}}")
    with pytest.raises(ConfigError, match=mistake):
        load(file, {})


def test_tls_without_https_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"sinks: {{webhook: {{url: 'http://f:2801', tls: {{ca: {tmp_path}}}}}}}")
    with pytest.raises(ConfigError, match=r"sinks.webhook.tls: needs a URL that begins with https, got http://f:2801"):
        load(file, {})
