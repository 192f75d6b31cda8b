"""The rendered objects run: the container's own command with its ConfigMap and Secret becomes a service that escalates."""

import contextlib
import http.client
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.cluster import Node, free_port, probe, wait_until_started
from chart.rendering import Object, helm_test, objects, pod
from chart_docs import CHART
from conftest import spec
from support import fake_falco
from support.certificates import make_ca
from support.falcosidekick import Falcosidekick

from sidecar.cli.testing.stories import alerts
from sidecar.rules.rule import CorrelationRule

pytestmark = pytest.mark.slow

CRITICAL = "Full Web Application Compromise"


@pytest.fixture
def attack(rule: CorrelationRule) -> list[bytes]:
    """A web shell, a shell technique, network activity and credential access, one after the other."""
    shell = "tini > nginx > php-fpm > sh"
    steps = [(shell, "web_shell"), (f"{shell} > python3", "shell_technique")]
    steps += [(f"{shell} > curl", "network"), (f"{shell} > cat", "credential")]
    return list(alerts(rule, [spec(process, group, at=f"{at}s") for at, (process, group) in enumerate(steps)]))


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


def sets(ports: tuple[int, int], sidekick: Falcosidekick, *more: str) -> tuple[str, ...]:
    return (f"http.port={ports[0]}", f"admin.port={ports[1]}", f"falcosidekick.url={sidekick.url}", *more)


def workload(name: str, options: tuple[str, ...]) -> tuple[Object, Object]:
    template = pod(name, *options)["spec"]
    (container,) = (each for each in template["containers"] if each["name"] == "falco-correlator")
    return template, container


def post(port: int, path: str, bodies: list[bytes], context: ssl.SSLContext | None = None) -> list[int]:
    """As Falco: one connection, one POST for each alert."""
    if context:
        connection: Any = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        return [_status(connection, path, body) for body in bodies]


def _status(connection: http.client.HTTPConnection, path: str, body: bytes) -> int:
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def incidents(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["rule"], each["priority"]) for each in events if "webrce_incident" in each["tags"]]


def stories(sidekick: Falcosidekick) -> list[tuple[str, str]]:
    """Steps of the incident, as Falcosidekick got them, until the critical one."""
    count = 1
    while True:
        got = incidents(sidekick.wait_for(count))
        if not got or len(got) < count or got[-1][1] == "Critical":
            return got
        count += 1


def test_mode_http_takes_alerts_at_the_secret_path_and_tells_falcosidekick(
    sidekick: Falcosidekick, ports: tuple[int, int], attack: list[bytes], tmp_path: Path
) -> None:
    options = sets(ports, sidekick)
    template, container = workload("default", options)
    node = Node(tmp_path, objects("default", *options))
    node.mount(template, container)
    path = (node.paths["/etc/falco-correlator/secret"] / "secret-path").read_text()

    with node.running(container) as process:
        wait_until_started(container, process)
        assert [probe(container, kind) for kind in ("liveness", "readiness")] == [200, 200]
        assert post(ports[0], "/", attack) == [404] * 4
        assert post(ports[0], path, attack) == [200] * 4
        assert stories(sidekick)[-1] == (CRITICAL, "Critical")

    assert (node.paths["/var/lib/falco-correlator"] / "state.db").exists()


def test_mode_http_passes_on_what_falcosidekick_had_before(
    sidekick: Falcosidekick, ports: tuple[int, int], attack: list[bytes], tmp_path: Path
) -> None:
    options = sets(ports, sidekick, "insecure=true", "networkPolicy.enabled=true")
    template, container = workload("default", options)
    node = Node(tmp_path, objects("default", *options))
    node.mount(template, container)
    other = json.dumps({**json.loads(attack[0]), "rule": "Terminal shell in container", "tags": []}).encode()

    with node.running(container) as process:
        wait_until_started(container, process)
        assert post(ports[0], "/", [other]) == [200]
        assert [each["rule"] for each in sidekick.wait_for(1)] == ["Terminal shell in container"]

    assert sidekick.raw == [other]


def test_mode_http_serves_a_cluster_that_has_only_ipv6(
    sidekick: Falcosidekick, ports: tuple[int, int], attack: list[bytes], tmp_path: Path
) -> None:
    options = sets(ports, sidekick, "http.host=::", "insecure=true", "networkPolicy.enabled=true")
    template, container = workload("default", options)
    node = Node(tmp_path, objects("default", *options))
    node.mount(template, container)

    with node.running(container) as process:
        wait_until_started(container, process)
        with contextlib.closing(http.client.HTTPConnection("::1", ports[0], timeout=60)) as falco:
            falco.request("POST", "/", attack[0])
            assert falco.getresponse().status == 200
        with contextlib.closing(http.client.HTTPConnection("::1", ports[1], timeout=60)) as probes:
            probes.request("GET", "/readyz")
            assert probes.getresponse().status == 200


def test_mode_http_with_mutual_tls_serves_falcos_certificate_and_nobody_elses(
    sidekick: Falcosidekick, ports: tuple[int, int], attack: list[bytes], tmp_path: Path
) -> None:
    ca = make_ca(tmp_path)
    pairs = {name: ca.issue(name) for name in ("falco-correlator", "falco", "stranger")}
    certificates = {
        secret: {
            "ca.crt": ca.cert.read_text(),
            "tls.crt": pairs[name].cert.read_text(),
            "tls.key": pairs[name].key.read_text(),
        }
        for secret, name in (("falco-correlator-tls", "falco-correlator"), ("falco-correlator-falco-client", "falco"))
    }
    options = sets(ports, sidekick)
    template, container = workload("http-mtls", options)
    (tmp_path / "node").mkdir()
    node = Node(tmp_path / "node", objects("http-mtls", *options), certificates)
    node.mount(template, container)

    def client(name: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(ca.cert))
        context.load_cert_chain(pairs[name].cert, pairs[name].key)
        return context

    with node.running(container) as process:
        wait_until_started(container, process)
        assert probe(container, "readiness") == 200
        with pytest.raises((OSError, http.client.HTTPException)):
            post(ports[0], "/", attack, client("stranger"))
        assert post(ports[0], "/", attack, client("falco")) == [200] * 4
        assert stories(sidekick)[-1] == (CRITICAL, "Critical")
        helm_test_passes(tmp_path, "http-mtls", options, ports, certificates)


def helm_test_passes(
    folder: Path, name: str, options: tuple[str, ...], ports: tuple[int, int], secrets: dict[str, dict[str, str]]
) -> None:
    """Run the pod of `helm test` beside the service."""
    test = helm_test(name, *options)
    assert test
    (container,) = test["spec"]["containers"]
    (folder / "test").mkdir()
    node = Node(folder / "test", objects(name, *options), secrets)
    node.mount(test["spec"], container)
    environment = {
        key: value.replace("falco-correlator.falco.svc", "127.0.0.1")
        for key, value in node.environment(container).items()
    }

    done = subprocess.run(
        node.command(container), env={**environment, "PATIENCE": "10"}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout in ("four alerts became one critical incident\n", "Falco answers over gRPC\n")


def test_the_helm_test_sees_a_service_that_works_and_says_when_it_does_not(
    sidekick: Falcosidekick, ports: tuple[int, int], tmp_path: Path
) -> None:
    options = sets(ports, sidekick, "secretPath.value=/0123456789abcdef")
    template, container = workload("default", options)
    (tmp_path / "node").mkdir()
    node = Node(tmp_path / "node", objects("default", *options))
    node.mount(template, container)

    with node.running(container) as process:
        wait_until_started(container, process)
        helm_test_passes(tmp_path, "default", options, ports, {})
        assert {each["output_fields"]["container.name"] for each in sidekick.wait_for(1)} == {
            "falco-correlator-helm-test"
        }

    command = [sys.executable, str(CHART / "files" / "helm_test.py")]
    nowhere = {"METRICS_URL": f"http://127.0.0.1:{ports[1]}/metrics", "PATIENCE": "0.5"}
    done = subprocess.run(command, env=nowhere, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("not within 0 s; last seen: <urlopen error")


def test_mode_grpc_reads_falcos_socket_and_tells_falcosidekick(
    sidekick: Falcosidekick, ports: tuple[int, int], attack: list[bytes], tmp_path: Path
) -> None:
    options = sets(ports, sidekick)
    template, container = workload("grpc", options)
    node = Node(tmp_path, objects("grpc", *options))
    node.mount(template, container)
    falco = fake_falco.FakeFalco()
    falco.queue.extend(fake_falco.responses(attack))

    with fake_falco.running(f"unix://{node.paths['/run/falco']}/falco.sock", falco), node.running(container) as process:
        wait_until_started(container, process)
        assert stories(sidekick)[-1] == (CRITICAL, "Critical")
        assert probe(container, "readiness") == 200
        helm_test_passes(tmp_path, "grpc", options, ports, {})


def test_mode_tap_correlates_what_falcosidekick_forwards_and_its_own_incidents_do_not_come_round(
    sidekick: Falcosidekick, ports: tuple[int, int], attack: list[bytes], tmp_path: Path
) -> None:
    options = sets(ports, sidekick, "secretPath.value=/0123456789abcdef")
    template, container = workload("tap", options)
    node = Node(tmp_path, objects("tap", *options))
    node.mount(template, container)
    forwarded = [json.dumps({**json.loads(body), "uuid": f"{n}"}).encode() for n, body in enumerate(attack)]

    with node.running(container) as process:
        wait_until_started(container, process)
        assert post(ports[0], "/0123456789abcdef", forwarded) == [200] * 4
        received = stories(sidekick)
        assert received[-1] == (CRITICAL, "Critical")
        back = [json.dumps(event).encode() for event in sidekick.events]
        assert post(ports[0], "/0123456789abcdef", back) == [200] * len(back)
        helm_test_passes(tmp_path, "tap", options, ports, {})

    assert incidents(sidekick.events)[: len(received)] == received
    assert len(sidekick.events) == len(incidents(sidekick.events)), "no raw alert goes back to Falcosidekick"
    tested = [e for e in sidekick.events if e["output_fields"]["container.name"] == "falco-correlator-helm-test"]
    assert len(sidekick.events) == len(received) + len(tested)


def test_mode_sidecar_runs_in_falcos_pod_with_the_settings_of_the_chart(
    sidekick: Falcosidekick, ports: tuple[int, int], attack: list[bytes], tmp_path: Path
) -> None:
    overlay = (CHART / "overlays" / "falco-sidecar.yaml").read_text().replace("2812", str(ports[1]))
    values = yaml.safe_load(overlay)
    (container,) = values["extra"]["initContainers"]
    options = sets(ports, sidekick)
    node = Node(tmp_path, objects("sidecar", *options))
    node.mount(values["mounts"], container)

    with node.running(container) as process:
        wait_until_started(container, process)
        assert post(ports[0], "/", attack) == [200] * 4
        assert stories(sidekick)[-1] == (CRITICAL, "Critical")


def test_correlation_rules_of_ones_own_are_loaded_beside_the_shipped(
    sidekick: Falcosidekick, ports: tuple[int, int], tmp_path: Path
) -> None:
    options = sets(ports, sidekick)
    template, container = workload("http-state-on-node", options)
    rendered = objects("http-state-on-node", *options)
    mining = (CHART.parent.parent / "tests" / "data" / "crypto_mining.yaml").read_text()
    for each in rendered:
        if each["metadata"]["name"] == "falco-correlator-correlation-rules":
            each["data"]["crypto_mining.yaml"] = mining
    node = Node(tmp_path, rendered)
    node.mount(template, container)
    check = ["falco-correlator", "check", "--config", node.command(container)[3]]

    done = subprocess.run(check, env=node.environment(container), capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "web-application-rce: ok" in done.stdout
    assert "crypto-mining: ok" in done.stdout


def test_the_directory_on_the_node_is_given_to_the_service_once(tmp_path: Path) -> None:
    user = 65532 if os.getuid() == 0 else os.getuid()
    options = (f"podSecurityContext.runAsUser={user}",)
    template, _ = workload("http-state-on-node", options)
    container = template["initContainers"][0]
    node = Node(tmp_path, objects("http-state-on-node", *options))
    node.mount(template, container)
    command = [sys.executable, *node.command(container)[1:]]

    for _ in range(2):
        subprocess.run(command, check=True, capture_output=True)

    assert node.paths["/state"].stat().st_uid == user
    if user == 65532:
        assert node.paths["/state"].stat().st_mode & 0o777 == 0o700
