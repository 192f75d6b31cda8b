"""Who may speak: loopback, a certificate, a secret path; everybody else is refused, counted, and changes nothing.

Covers: `net.tls`, `net.tls_context`, `settings.tls`.
"""

import http.client
import os
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA, Running, Serving, needs
from support.certificates import Authority, Pair, make_ca
from support.waiting import wait_until

from sidecar.errors import ConfigError
from sidecar.net.admission import is_loopback
from sidecar.settings.loading import load
from sidecar.settings.schema import Settings
from sidecar.yamlfile.typed import build

STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()
STDOUT: dict[str, Any] = {"sinks": {"stdout": {"enabled": True}}}
PATH = "/4f1c8a9b-secret-path"
BIN = Path(sys.executable).parent


def problems(tmp_path: Path, http_settings: str) -> list[str]:
    file = tmp_path / "settings.yaml"
    file.write_text(f"sinks: {{stdout: {{enabled: true}}}}\nhttp: {http_settings}\n")
    try:
        load(file, {})
    except ConfigError as error:
        return error.problems
    return []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "node-1", "127.0.0.1.example", "::ffff:10.0.0.1"])
def test_an_address_that_others_can_reach_needs_a_way_to_know_falco(tmp_path: Path, host: str) -> None:
    (message,) = problems(tmp_path, f"{{host: '{host}'}}")

    for remedy in ("http.tls", "client_ca", "http.secret_path", "127.0.0.1", "http.insecure: true"):
        assert remedy in message


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "::ffff:127.0.0.1", "::1%lo"])
def test_loopback_needs_nothing(tmp_path: Path, host: str) -> None:
    assert is_loopback(host)
    assert problems(tmp_path, f"{{host: '{host}'}}") == []


@pytest.mark.parametrize("way", [f"secret_path: {PATH}", "insecure: true"])
def test_a_secret_path_or_the_will_to_be_insecure_is_enough(tmp_path: Path, way: str) -> None:
    assert problems(tmp_path, f"{{host: 0.0.0.0, {way}}}") == []


@pytest.mark.slow
def test_mutual_tls_is_enough_and_tls_alone_is_not(tmp_path: Path, ca: Authority) -> None:
    pair = ca.issue("localhost")
    alone = f"host: 0.0.0.0, tls: {{cert: {pair.cert}, key: {pair.key}"

    assert problems(tmp_path, f"{{{alone}, client_ca: {ca.cert}}}}}") == []
    assert [message[:60] for message in problems(tmp_path, f"{{{alone}}}}}")] == [
        "http.host: '0.0.0.0' can be reached from other machines, which could forg"[:60]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("file", ["cert", "key", "client_ca"])
def test_a_certificate_that_cannot_be_used_is_told_at_the_start(tmp_path: Path, ca: Authority, file: str) -> None:
    pair = ca.issue("localhost")
    files = {"cert": pair.cert, "key": pair.key, "client_ca": ca.cert, file: tmp_path / "missing"}
    (message,) = problems(tmp_path, "{tls: {" + ", ".join(f"{name}: {path}" for name, path in files.items()) + "}}")

    assert message == f"http.tls.{file}: '{tmp_path / 'missing'}' cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{secret_path: short}", "http.secret_path: expected / followed by at least 15"),
        ("{secret_path: 4f1c8a9b-secret-path}", "http.secret_path: expected / "),
        ("{secret_path: '/4f1c8a9b secret path'}", "http.secret_path: expected / "),
        ("{secret_path: /4f1c8a9b-secret-path, secret_path_file: x}", "http.secret_path, http.secret_path_file: give"),
        ("{secret_path_file: /missing}", "http.secret_path_file: /missing cannot be read: "),
        ("{tls: {cert: x}}", "http.tls.cert, http.tls.key: both are needed"),
        ("{tls: {client_ca: x}}", "http.tls.client_ca: needs http.tls.cert and http.tls.key"),
        ("{tls: {allowed_names: [x]}}", "http.tls.allowed_names: needs http.tls.client_ca"),
    ],
)
def test_a_mistake_in_who_may_speak_is_told_with_its_remedy(tmp_path: Path, settings: str, message: str) -> None:
    (problem,) = problems(tmp_path, settings)

    assert problem.startswith(message)


@pytest.mark.slow
def test_the_service_refuses_to_start_open_to_all_with_exit_2(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "FALCO_CORRELATOR_HTTP__HOST": "0.0.0.0",
        "FALCO_CORRELATOR_SINKS__STDOUT__ENABLED": "true",
    }
    done = subprocess.run(
        [BIN / "falco-correlator", "run"], env=environment, capture_output=True, text=True, timeout=20, check=False
    )

    assert done.returncode == 2
    assert "http.host: '0.0.0.0' can be reached from other machines" in done.stderr


def sent(service: Running, path: str, *, method: str = "POST", body: bytes = STOCK[3]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", service.service.http_port, timeout=60)
    connection.request(method, path, body)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, text


@pytest.mark.slow
@pytest.mark.parametrize("from_file", [True, False])
def test_a_wrong_path_is_404_counted_told_and_changes_nothing(
    serving: Serving, tmp_path: Path, *, from_file: bool
) -> None:
    (tmp_path / "path").write_text(PATH + "\n")
    secret = {"secret_path_file": str(tmp_path / "path")} if from_file else {"secret_path": PATH}
    with serving({**STDOUT, "http": {"port": 0, **secret}}) as service:
        wrong = ("/", PATH[:-1], PATH + "x", PATH + "/", PATH.upper(), "//" + PATH[1:], "/%34f1c8a9b-secret-path")
        assert {sent(service, path) for path in wrong} == {(404, b"404 Not Found")}
        assert sent(service, "/", method="GET") == (404, b"404 Not Found")
        assert service.service.pipeline.received == 0
        assert service.metric('http_refused_total{status="404"}') == 8.0
        assert service.metric('degraded{cause="refused_senders"}') == 1.0
        assert "8 senders were refused" in service.service.http.degraded

        assert sent(service, PATH)[0] == sent(service, PATH + "?x=y")[0] == 200
        assert sent(service, PATH, method="GET")[0] == 405
        assert service.service.pipeline.received == 2
        assert service.metric('degraded{cause="refused_senders"}') == 0.0


@pytest.mark.slow
def test_the_body_behind_a_wrong_path_is_not_even_read(serving: Serving) -> None:
    with (
        serving({**STDOUT, "http": {"port": 0, "secret_path": PATH}}) as service,
        socket.create_connection(("127.0.0.1", service.service.http_port), timeout=60) as connection,
    ):
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n")

        assert connection.recv(1000).startswith(b"HTTP/1.1 404 ")


@pytest.mark.slow
def test_the_ingest_port_shows_no_state(serving: Serving) -> None:
    with serving(STDOUT) as service:
        for path in ("/", "/healthz", "/readyz", "/metrics", "/incidents"):
            status, text = sent(service, path, method="GET")
            assert (status, text) == (405, b"POST Falco's alerts here (falco.yaml: http_output.url)\n")


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return make_ca(tmp_path)


def secure(pair: Pair, ca: Authority, **more: Any) -> dict[str, Any]:
    tls = {"cert": str(pair.cert), "key": str(pair.key), "client_ca": str(ca.cert), **more}
    return {**STDOUT, "http": {"port": 0, "tls": tls}}


def client(ca: Authority, pair: Pair | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca.cert))
    if pair is not None:
        context.load_cert_chain(pair.cert, pair.key)
    return context


def posted(service: Running, context: ssl.SSLContext, body: bytes = STOCK[3]) -> int:
    connection = http.client.HTTPSConnection("127.0.0.1", service.service.http_port, timeout=60, context=context)
    try:
        connection.request("POST", "/", body)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@pytest.mark.slow
def test_only_clients_with_a_certificate_of_our_authority_may_speak(
    serving: Serving, ca: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    foreign = make_ca(tmp_path / "other").issue("falco")
    with serving(secure(ca.issue("localhost"), ca)) as service:
        refused = [posted(service, client(ca, None)), posted(service, client(ca, foreign)), sent_plain(service)]
        assert refused == [0, 0, b""]
        assert service.service.pipeline.received == 0
        assert service.metric('http_refused_total{status="tls"}') == 3.0
        assert service.metric('degraded{cause="refused_senders"}') == 1.0

        assert posted(service, client(ca, ca.issue("falco"))) == 200
        assert service.service.pipeline.received == 1
        assert service.metric('degraded{cause="refused_senders"}') == 0.0


def sent_plain(service: Running) -> bytes:
    with socket.create_connection(("127.0.0.1", service.service.http_port), timeout=60) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        try:
            return connection.recv(100)
        except ConnectionResetError:
            return b""


@pytest.mark.slow
def test_of_those_only_the_names_that_are_allowed(serving: Serving, ca: Authority) -> None:
    with serving(secure(ca.issue("localhost"), ca, allowed_names=["falco-1", "falco-2"])) as service:
        assert posted(service, client(ca, ca.issue("intruder"))) == 0
        assert service.service.pipeline.received == 0
        assert service.metric('http_refused_total{status="403"}') == 1.0
        assert posted(service, client(ca, ca.issue("falco-2"))) == 200


@pytest.mark.slow
def test_a_certificate_that_cannot_be_used_does_not_replace_the_good_one(serving: Serving, ca: Authority) -> None:
    server = ca.issue("localhost")
    context = client(ca, ca.issue("falco"))
    with serving(secure(server, ca)) as service:
        assert posted(service, context) == 200
        server.cert.write_text("half a certif")
        assert posted(service, context) == 200
        server.cert.unlink()
        assert posted(service, context) == 200


@pytest.mark.slow
def test_certificates_rotate_under_load_and_no_alert_is_lost(  # noqa: PLR0915 - a sender, a rotation
    serving: Serving, ca: Authority
) -> None:
    server = ca.issue("localhost")
    context = client(ca, ca.issue("falco"))
    serials: set[Any] = set()
    answers: list[int] = []
    ending = threading.Event()

    def falco() -> None:
        while not ending.is_set():
            connection = http.client.HTTPSConnection(
                "127.0.0.1", service.service.http_port, timeout=60, context=context
            )
            for _ in range(40):
                connection.request("POST", "/", STOCK[len(answers) % len(STOCK)])
                answer = connection.getresponse()
                answer.read()
                answers.append(answer.status)
                assert isinstance(connection.sock, ssl.SSLSocket)
                serials.add((connection.sock.getpeercert() or {}).get("serialNumber"))
            connection.close()

    with serving(secure(server, ca)) as service:
        thread = threading.Thread(target=falco)
        thread.start()
        for _ in range(4):
            seen = len(serials)
            ca.issue("localhost")
            wait_until(lambda seen=seen: len(serials) > seen)  # type: ignore[misc]
        ending.set()
        thread.join()

        assert set(answers) == {200}
        assert service.service.pipeline.received == len(answers)


@pytest.mark.slow
def test_a_handshake_that_never_ends_holds_a_place_and_is_cut_off(serving: Serving, ca: Authority) -> None:
    settings = secure(ca.issue("localhost"), ca)
    settings["http"]["header_timeout"] = "2s"
    with (
        serving(settings) as service,
        socket.create_connection(("127.0.0.1", service.service.http_port), timeout=60) as slow,
    ):
        slow.sendall(b"\x16\x03\x01")
        wait_until(lambda: len(service.service.http.connections) == 1)
        assert slow.recv(10) == b""
        wait_until(lambda: len(service.service.http.connections) == 0)


def test_shown_settings_hold_no_secret() -> None:
    from sidecar.settings.display import to_yaml

    settings = build(
        Settings,
        {
            "http": {"secret_path": PATH},
            "redaction": {"key": "geheim"},
            "sinks": {"webhook": {"url": "http://bob:geheim@h/", "headers": {"Authorization": "Bearer geheim"}}},
        },
        "test",
    )
    shown = to_yaml(settings, hide=True)

    assert "geheim" not in shown
    assert PATH not in shown
    assert "http://***@h/" in shown


@pytest.mark.slow
def test_curl_with_falcos_options_for_mutual_tls_is_let_in(serving: Serving, ca: Authority, tmp_path: Path) -> None:
    falco = ca.issue("falco")
    (tmp_path / "alert.json").write_bytes(STOCK[3])
    files = ["--cacert", ca.cert, "--cert", falco.cert, "--key", falco.key, "--data-binary", f"@{tmp_path}/alert.json"]
    with serving(secure(ca.issue("localhost"), ca, allowed_names=["falco"])) as service:
        url = f"https://127.0.0.1:{service.service.http_port}/"
        answer = ["--silent", "--show-error", "--output", "-", "--write-out", "%{http_code} %{num_connects}\n"]
        command = [needs("curl"), *answer, *map(str, files), url, url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)

        assert (done.returncode, done.stdout.split("\n")[:2]) == (0, ["200 1", "200 0"]), done.stderr
        assert service.service.pipeline.received == 2
