"""A service that speaks no TLS runs without OpenSSL, as a real process; one that does has it."""

import http.client
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA
from net.test_secret_path import client
from service.test_supervisor import free_port
from support.certificates import Pair, make_ca
from support.falcosidekick import Falcosidekick
from support.waiting import DEADLINE_SECONDS, wait_until

from sidecar.settings.schema import Settings
from sidecar.yamlfile.typed import build

STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()


@pytest.mark.parametrize(
    ("settings", "speaks"),
    [
        ({}, False),
        ({"sinks": {"falcosidekick": {"url": "http://sidekick:2801"}}, "http": {"secret_path": "/x" * 9}}, False),
        ({"sinks": {"grpc": {"address": "0.0.0.0:5060"}}, "grpc": {"enabled": True, "address": "falco:5060"}}, False),
        ({"admin": {"links": {"Grafana": "https://grafana.example"}}}, False),
        ({"sinks": {"falcosidekick": {"url": "https://sidekick:2801"}}}, True),
        ({"sinks": {"webhook": {"url": "HTTPS://hook.example"}}}, True),
        ({"pass_through": {"url": "https://sidekick:2801"}}, True),
        ({"http": {"tls": {"cert": "/tls.crt", "key": "/tls.key"}}}, True),
    ],
)
def test_tls_is_spoken_on_the_port_for_alerts_and_to_https_urls(settings: dict[str, Any], *, speaks: bool) -> None:
    assert build(Settings, settings, "test").needs_openssl() is speaks


def python(code: str) -> str:
    """What a program prints that imports nothing but what it says: measuring coverage would bring OpenSSL."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_what_a_worker_imports_before_it_knows_its_settings_brings_neither_openssl_nor_the_command_line() -> None:
    code = "import sidecar.service.worker, sys; print({'asyncio', 'ssl', '_hashlib', 'click', 'rich'} & {*sys.modules})"

    assert python(code) == "set()"


def test_afterwards_openssl_can_be_imported_as_ever() -> None:
    code = (
        "import sys; from sidecar.net import without_openssl as openssl\n"
        "with openssl.left_out(): import asyncio, hashlib\n"
        "assert '_hashlib' not in sys.modules\n"
        "import ssl; print(ssl.create_default_context().verify_mode.name)"
    )

    assert python(code) == "CERT_REQUIRED"


def test_secrets_are_masked_alike_with_and_without_openssl() -> None:
    mask = "from sidecar.text.redaction.redactor import Redactor; print(Redactor('key')('curl -u me:hunter2 http://a'))"

    assert "***" in python(mask)
    assert python(mask) == python(
        f"from sidecar.net import without_openssl as openssl\nwith openssl.left_out(): {mask}"
    )


@contextmanager
def worker(folder: Path, settings: dict[str, Any], **environment: str) -> Iterator[tuple[int, int]]:
    """The port for alerts of a service under its supervisor, and the worker's process id."""
    port, file = free_port(), folder / "settings.yaml"
    http_settings = {**settings.pop("http", {}), "port": port}
    file.write_text(json.dumps({"admin": {"enabled": False}, "http": http_settings, **settings}))
    command = [sys.executable, "-m", "sidecar", "run", "--config", str(file)]
    with (folder / "log").open("wb") as log:
        parent = subprocess.Popen(command, stderr=log, stdout=log, env={**os.environ, **environment})
    try:
        wait_until(lambda: b'"ready"' in (folder / "log").read_bytes())
        yield port, int(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()[0])
    finally:
        parent.terminate()
        parent.wait(DEADLINE_SECONDS)


def libraries(process: int) -> str:
    return Path(f"/proc/{process}/maps").read_text()


@pytest.mark.slow
def test_a_worker_without_tls_holds_no_openssl_and_does_its_work(tmp_path: Path, sidekick: Falcosidekick) -> None:
    with worker(tmp_path, {"sinks": {"falcosidekick": {"url": sidekick.url}}}) as (port, process):
        falco = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for body in STOCK:
            falco.request("POST", "/", body)
            falco.getresponse().read()
        falco.close()
        incidents = {event["rule"] for event in sidekick.wait_for(len(STOCK))}
        held = libraries(process)

    assert "Web Shell with Network Activity" in incidents
    assert not any(name in held for name in ("libssl", "libcrypto", "_hashlib", "_ssl"))


@pytest.mark.slow
def test_a_worker_takes_alerts_over_tls_and_sends_incidents_over_tls(tmp_path: Path, sidekick: Falcosidekick) -> None:
    ca = make_ca(tmp_path)
    pair = ca.issue("localhost")
    with secured(sidekick, pair) as url:
        settings = {
            "sinks": {"webhook": {"url": url}},
            "http": {"tls": {"cert": str(pair.cert), "key": str(pair.key)}},
        }
        with worker(tmp_path, settings, SSL_CERT_FILE=str(ca.cert)) as (port, _):
            falco = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=client(ca, None))
            for body in STOCK:
                falco.request("POST", "/", body)
                falco.getresponse().read()
            falco.close()
            wait_until(
                lambda: [event["rule"] for event in sidekick.events].count("Web Shell with Network Activity") == 3
            )


@contextmanager
def secured(sidekick: Falcosidekick, pair: Pair) -> Iterator[str]:
    """Let a Falcosidekick speak TLS from now on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    server = sidekick._server
    server.socket = context.wrap_socket(server.socket, server_side=True)
    yield f"https://127.0.0.1:{server.server_port}/"
