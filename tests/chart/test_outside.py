"""What programs of others say of the rendered objects: kubernetes-validate, checkov, promtool."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from chart.rendering import CI_FILES, Object, objects, one, text
from chart_tools import scanner
from conftest import Serving, needs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A file for each values file of ci/."""
    folder = tmp_path_factory.mktemp("rendered")
    for name in CI_FILES:
        (folder / f"{name}.yaml").write_text(text(4, name))
    return sorted(map(str, folder.iterdir()))


@pytest.mark.parametrize("version", ["1.28", "1.33", "1.37"])
def test_kubernetes_takes_every_object(rendered: list[str], version: str) -> None:
    command = [scanner("kubernetes-validate"), "--strict", "--no-warn", "--quiet", "-k", version]
    done = subprocess.run([*command, *rendered], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_kubernetes_would_refuse_a_misspelt_key(tmp_path: Path) -> None:
    service = one("Service", "default")
    wrong = tmp_path / "service.yaml"
    wrong.write_text(yaml.safe_dump({**service, "spec": {**service["spec"], "internalTraficPolicy": "Local"}}))

    command = [scanner("kubernetes-validate"), "--strict", str(wrong)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_checkov_finds_nothing_and_every_exception_says_why(rendered: list[str]) -> None:
    command = [scanner("checkov"), "--framework", "kubernetes", "--skip-download", "--output", "json"]
    done = subprocess.run(
        [*command, *(part for file in rendered for part in ("-f", file))], capture_output=True, text=True, check=False
    )
    results = json.loads(done.stdout)["results"]

    assert [(each["check_id"], each["resource"]) for each in results["failed_checks"]] == []
    assert len(results["passed_checks"]) > 1000
    skipped = results["skipped_checks"]
    assert [each["check_id"] for each in skipped if not each["check_result"]["suppress_comment"]] == []
    uid = [each for each in skipped if each["check_id"] in ("CKV_K8S_6", "CKV_K8S_23", "CKV_K8S_40", "CKV_K8S_29")]
    assert {Path(each["file_path"]).stem for each in uid} == {"grpc", "http-state-on-node"}


@pytest.mark.parametrize("name", ["http-mtls", "sidecar"])
def test_prometheus_takes_the_rules(name: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(one("PrometheusRule", name)["spec"]))

    done = subprocess.run([needs("promtool"), "check", "rules", str(file)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "7 rules found" in done.stdout


def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(one("PrometheusRule", "http-mtls")["spec"]))
    tests = yaml.safe_load((Path(__file__).parent / "alerts_test.yaml").read_text())
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(tests))
    named = {each["alertname"] for test in tests["tests"] for each in test["alert_rule_test"] if each.get("exp_alerts")}

    done = subprocess.run(
        [needs("promtool"), "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    rules = one("PrometheusRule", "http-mtls")["spec"]["groups"][0]["rules"]
    assert named == {each["alert"] for each in rules}


def test_every_metric_that_an_alert_asks_for_is_one_that_the_service_has(serving: Serving) -> None:
    rules = one("PrometheusRule", "http-mtls")["spec"]["groups"][0]["rules"]
    asked = {name for each in rules for name in re.findall(r"falco_correlator_\w+", each["expr"])}

    sinks = {"falcosidekick": {"url": "http://127.0.0.1:9/"}}
    with serving({"sinks": sinks, "canary": {"enabled": True}}) as service:
        known = set(re.findall(r"^(falco_correlator_\w+)", service.get("/metrics")[1], re.MULTILINE))

    assert sorted(asked - known) == []


ENDPOINT = {"port", "path", "interval", "scrapeTimeout", "relabelings", "metricRelabelings"}


@pytest.mark.parametrize(
    ("kind", "name", "endpoints", "port"),
    [
        ("PodMonitor", "http-mtls", "podMetricsEndpoints", "metrics"),
        ("PodMonitor", "sidecar", "podMetricsEndpoints", "fc-metrics"),
        ("ServiceMonitor", "http-existing-secrets", "endpoints", "metrics"),
        ("ServiceMonitor", "grpc", "endpoints", "metrics"),
    ],
)
def test_a_monitor_has_the_keys_of_the_prometheus_operator(kind: str, name: str, endpoints: str, port: str) -> None:
    spec = one(kind, name)["spec"]

    assert set(spec) <= {"selector", "namespaceSelector", "targetLabels", endpoints}
    assert [set(each) <= ENDPOINT for each in spec[endpoints]] == [True]
    assert spec[endpoints][0]["port"] == port
    assert spec["selector"]["matchLabels"].items() <= labelled(kind, name).items()


def labelled(kind: str, name: str) -> Object:
    """The labels of what this monitor must find."""
    if name == "sidecar":
        return {"app.kubernetes.io/name": "falco"}
    if kind == "ServiceMonitor":
        labels: Object = one("Service", name)["metadata"]["labels"]
        return labels
    found: Object = next(e for e in objects(name) if e["kind"] == "DaemonSet")["spec"]["template"]["metadata"]["labels"]
    return found
