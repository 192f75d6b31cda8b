"""The chart below another one: Helm's `condition`, `global` and `alias`; and Falco, Falcosidekick and it as one release."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.rendering import Object, call
from chart_docs import CHART
from chart_tools import helm

pytestmark = pytest.mark.slow

UMBRELLA = CHART / "umbrella"


def umbrella(folder: Path, values: dict[str, Any], **dependency: str) -> list[Object]:
    """The objects of an umbrella chart that has ours as its only dependency."""
    entry = {"name": "falco-correlator", "version": ">=0.1.0-0", **dependency}
    chart = {"apiVersion": "v2", "name": "umb", "version": "0.1.0", "dependencies": [entry]}
    (folder / "Chart.yaml").write_text(yaml.safe_dump(chart))
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    shutil.copytree(CHART, folder / "charts" / "falco-correlator")
    return rendered(folder)


def rendered(folder: Path, release: str = "u") -> list[Object]:
    return [each for each in yaml.safe_load_all(call(4, "template", release, str(folder), "-n", "sec")) if each]


def pod_of(objects: list[Object]) -> Object:
    (found,) = (each for each in objects if each["kind"] == "DaemonSet")
    spec: Object = found["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize(("enabled", "count"), [(True, 1), (False, 0)])
def test_the_condition_of_an_umbrella_turns_it_on_and_off(tmp_path: Path, *, enabled: bool, count: int) -> None:
    """Field case h01: `falco-correlator.enabled` was refused as an unknown value."""
    objects = umbrella(tmp_path, {"falco-correlator": {"enabled": enabled}}, condition="falco-correlator.enabled")

    assert sum(each["kind"] == "DaemonSet" for each in objects) == count


def test_global_registry_and_pull_secrets_hold_and_other_globals_do_no_harm(tmp_path: Path) -> None:
    shared = {"imageRegistry": "mirror.example", "imagePullSecrets": ["pull"], "storageClass": "fast"}
    pod = pod_of(umbrella(tmp_path, {"global": shared}))

    assert pod["containers"][0]["image"].startswith("mirror.example/falco-correlator/")
    assert pod["imagePullSecrets"] == [{"name": "pull"}]


def test_with_an_alias_every_object_that_is_named_is_there(tmp_path: Path) -> None:
    objects = umbrella(tmp_path, {"watch": {"secretPath": {"existingSecret": "mine"}}}, alias="watch")

    names = {each["metadata"]["name"] for each in objects if each["kind"] == "ConfigMap"}
    volumes = [each["configMap"] for each in pod_of(objects)["volumes"] if "configMap" in each]
    assert {each["name"] for each in volumes if not each.get("optional")} <= names
    (values,) = (each["data"] for each in objects if each["metadata"]["name"] == "u-watch-falco-values")
    mounted = yaml.safe_load(values["falco-0.44.yaml"])
    assert {each["configMap"]["name"] for each in mounted["mounts"]["volumes"] if "configMap" in each} <= names
    assert mounted["extra"]["env"][0]["valueFrom"]["secretKeyRef"]["name"] == "mine"


@pytest.fixture(scope="module")
def official() -> Path:
    """The official charts, a checkout of falcosecurity/charts."""
    path = os.environ.get("FALCO_CHARTS")
    if not path:
        pytest.skip("Falco's charts are not here: name a checkout of falcosecurity/charts with FALCO_CHARTS=")
    return Path(path) / "charts"


@pytest.fixture(scope="module")
def one_release(official: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """What `helm install` of our umbrella makes of the three charts."""
    folder = tmp_path_factory.mktemp("umbrella")
    shutil.copytree(UMBRELLA, folder, dirs_exist_ok=True)
    shutil.copytree(CHART, folder / "charts" / "falco-correlator")
    shutil.copytree(official / "falco", folder / "charts" / "falco")
    for name in ("falcosidekick", "k8s-metacollector", "falco-talon"):
        shutil.copytree(official / name, folder / "charts" / "falco" / "charts" / name)
    return rendered(folder, "falco")


def test_our_umbrella_makes_falco_falcosidekick_and_the_correlator(one_release: list[Object]) -> None:
    workloads = {(each["kind"], each["metadata"]["name"]) for each in one_release}

    assert ("DaemonSet", "falco") in workloads
    assert ("DaemonSet", "falco-correlator") in workloads
    assert ("Deployment", "falco-falcosidekick") in workloads


def test_each_of_the_three_finds_the_next_one(one_release: list[Object]) -> None:
    by_name = {(each["kind"], each["metadata"]["name"]): each for each in one_release}
    falco = yaml.safe_load(by_name["ConfigMap", "falco"]["data"]["falco.yaml"])
    ours = yaml.safe_load(by_name["ConfigMap", "falco-correlator"]["data"]["config.yaml"])
    mounted = by_name["DaemonSet", "falco"]["spec"]["template"]["spec"]["volumes"]

    assert (falco["rule_matching"], falco["json_output"]) == ("all", True)
    assert "/etc/falco-correlator/config.d" in falco["config_files"]
    assert {"falco-correlator-rules", "falco-correlator-falco-config"} <= {
        each["configMap"]["name"] for each in mounted if "configMap" in each
    }
    host, port = ours["sinks"]["falcosidekick"]["url"].removeprefix("http://").split(":")
    assert int(port) in {each["port"] for each in by_name["Service", host]["spec"]["ports"]}


def test_the_umbrella_builds_with_helm_itself(official: Path, tmp_path: Path) -> None:
    """`helm dependency build` takes the folder, with the official chart from a file."""
    shutil.copytree(CHART, tmp_path / "falco-correlator")
    folder = tmp_path / "falco-correlator" / "umbrella"
    chart = folder / "Chart.yaml"
    chart.write_text(chart.read_text().replace("https://falcosecurity.github.io/charts", f"file://{tmp_path}/falco"))
    shutil.copytree(official / "falco", tmp_path / "falco")
    for name in ("falcosidekick", "k8s-metacollector", "falco-talon"):
        shutil.copytree(official / name, tmp_path / "falco" / "charts" / name)

    subprocess.run([helm(4), "dependency", "update", folder], check=True, capture_output=True)

    assert any(each["kind"] == "DaemonSet" for each in rendered(folder, "falco"))
