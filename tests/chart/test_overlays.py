"""The values for Falco's own chart: as complete as `falco_rules/config.d`, and in step with what our chart makes.

With the official chart they are rendered by hand (it is not ours to keep here): see the closing note of the issue.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
from chart.rendering import objects, one, pod
from chart_docs import CHART, ROOT
from falco.ruleset import shipped
from support import fast_yaml

from sidecar.cli.doctor import settings_findings
from sidecar.model import APPENDED, PACKED

OVERLAYS = {path.stem: fast_yaml.load(path.read_text()) for path in sorted((CHART / "overlays").glob("*.yaml"))}
MODES = {"falco-0.44": "http", "falco-0.43": "grpc", "falco-sidecar": "http", "falco-plugin": "http"}
WITH_TAP = pytest.mark.parametrize("name", [*MODES, "falco-tap"])


def of_falco(version: str) -> dict[str, Any]:
    found: dict[str, Any] = fast_yaml.load((ROOT / "falco_rules" / "config.d" / f"falco-{version}.yaml").read_text())
    return found


@pytest.mark.parametrize("name", MODES)
def test_doctor_finds_nothing_to_mend(name: str) -> None:
    assert settings_findings(OVERLAYS[name]["falco"], None) == (MODES[name], [])


@WITH_TAP
def test_an_overlay_asks_for_the_same_as_our_files_for_falco(name: str) -> None:
    ours = of_falco("0.43" if name == "falco-0.43" else "0.44")
    falco = OVERLAYS[name]["falco"]

    asked = [{**each, "extra_fields": [*APPENDED, PACKED]} for each in ours["append_output"]]
    wanted = asked if name == "falco-plugin" else ours["append_output"]
    assert falco["append_output"] == [{"suggested_output": True}, *wanted]
    assert (falco["outputs_queue"], falco["rule_matching"]) == (ours["outputs_queue"], "all")
    assert falco["json_output"] is True, "Falcosidekick cannot read text"
    for key in ("grpc", "grpc_output"):
        assert falco.get(key) == ours.get(key)


@WITH_TAP
def test_falco_loads_our_rules_beside_its_own_from_what_our_chart_makes(name: str) -> None:
    overlay = OVERLAYS[name]
    mounts = {mount["mountPath"]: mount["name"] for mount in overlay["mounts"]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in overlay["mounts"]["volumes"]}

    assert overlay["falco"]["rules_files"] == [
        "/etc/falco/falco_rules.yaml",
        "/etc/falco/falco_rules.local.yaml",
        "/etc/falco/rules.d",
        "/etc/falco-correlator/rules",
    ]
    assert volumes[mounts["/etc/falco-correlator/rules"]]["configMap"]["name"] == "falco-correlator-rules"
    if name in ("falco-0.44", "falco-sidecar", "falco-plugin"):
        assert overlay["falco"]["config_files"] == ["/etc/falco/config.d", "/etc/falco-correlator/config.d"]
        assert volumes[mounts["/etc/falco-correlator/config.d"]]["configMap"]["name"] == "falco-correlator-falco-config"


def test_falco_043_does_not_load_anew_what_would_abort_it() -> None:
    assert OVERLAYS["falco-0.43"]["falco"]["watch_config_files"] is False


def test_the_overlay_with_the_plugin_adds_that_and_changes_nothing_else() -> None:
    plain, plugin = OVERLAYS["falco-0.44"], copy.deepcopy(OVERLAYS["falco-plugin"])
    (copies,) = plugin["extra"].pop("initContainers")
    loaded, (entry,) = plugin["falco"].pop("load_plugins"), plugin["falco"].pop("plugins")
    (disabled,) = plugin["falco"].pop("rules")
    volume, mount = plugin["mounts"]["volumes"].pop(0), plugin["mounts"]["volumeMounts"].pop(0)
    plugin["falco"]["append_output"] = plain["falco"]["append_output"]

    assert plugin == plain
    assert (loaded, entry["name"]) == (["lineage"], "lineage")
    assert Path(entry["library_path"]).parent == Path(mount["mountPath"])
    assert volume["name"] == mount.pop("name") == copies["volumeMounts"][0]["name"]
    assert copies["volumeMounts"][0]["mountPath"] == mount["mountPath"]
    assert disabled["disable"]["rule"] in shipped().rules


@pytest.mark.slow
def test_the_objects_that_the_overlays_mount_are_those_that_the_chart_makes() -> None:
    def names(values: str, kind: str) -> set[str]:
        return {each["metadata"]["name"] for each in objects(values) if each["kind"] == kind}

    made = {
        "falco-0.44": names("default", "ConfigMap"),
        "falco-0.43": names("grpc", "ConfigMap"),
        "falco-plugin": names("default", "ConfigMap"),
        "falco-sidecar": names("sidecar", "ConfigMap"),
        "falco-tap": names("tap", "ConfigMap"),
    }
    for name, overlay in OVERLAYS.items():
        wanted = {each["configMap"]["name"] for each in overlay["mounts"]["volumes"] if "configMap" in each}
        assert wanted <= made[name], name
    secret = OVERLAYS["falco-0.44"]["extra"]["env"][0]["valueFrom"]["secretKeyRef"]
    assert secret["name"] in names("default", "Secret")
    assert secret["key"] in one("Secret", "default")["data"]
    certificate = [each for each in objects("http-mtls") if each["metadata"]["name"].endswith("-falco-client")]
    assert (
        certificate[0]["spec"]["secretName"] == OVERLAYS["falco-0.44"]["mounts"]["volumes"][2]["secret"]["secretName"]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "overlay"), [("default", "falco-0.44"), ("default", "falco-plugin"), ("sidecar", "falco-sidecar")]
)
def test_the_address_in_the_overlay_is_that_of_the_chart(values: str, overlay: str) -> None:
    (made,) = (each for each in objects(values) if each["metadata"]["name"] == "falco-correlator-falco-config")

    assert (
        fast_yaml.load(made["data"]["falco-correlator.yaml"])["http_output"]
        == OVERLAYS[overlay]["falco"]["http_output"]
    )


@pytest.mark.slow
def test_falcosidekick_gets_the_address_of_the_chart_with_the_secret_path_in_its_environment() -> None:
    path, address = OVERLAYS["falco-tap"]["falcosidekick"]["config"]["extraEnv"]

    wanted = path["valueFrom"]["secretKeyRef"]
    assert wanted["key"] in one("Secret", "tap")["data"]
    assert wanted["name"] == one("Secret", "tap")["metadata"]["name"]
    assert address["name"] == "WEBHOOK_ADDRESS"
    assert address["value"] == "http://falco-correlator.falco.svc:2802$(FALCO_CORRELATOR_PATH)"


@pytest.mark.slow
def test_with_mutual_tls_falco_gets_https_and_the_certificates_that_it_mounts() -> None:
    (made,) = (each for each in objects("http-mtls") if each["metadata"]["name"] == "falco-correlator-falco-config")
    output = fast_yaml.load(made["data"]["falco-correlator.yaml"])["http_output"]

    assert output["url"] == "https://falco-correlator.falco.svc:2802/"
    mounted = {mount["mountPath"] for mount in OVERLAYS["falco-0.44"]["mounts"]["volumeMounts"]}
    files = [Path(output[key]) for key in ("ca_cert", "client_cert", "client_key")]
    assert {str(file.parent) for file in files} <= mounted
    assert [file.name for file in files] == ["ca.crt", "tls.crt", "tls.key"]


@pytest.mark.slow
def test_the_sidecar_is_hardened_as_the_pod_of_the_chart_is() -> None:
    (container,) = OVERLAYS["falco-sidecar"]["extra"]["initContainers"]
    (copies,) = OVERLAYS["falco-plugin"]["extra"]["initContainers"]
    whole = pod("default")["spec"]
    own = whole["containers"][0]
    rights = {
        key: whole["securityContext"][key] for key in ("runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile")
    }

    assert container["restartPolicy"] == "Always"
    assert container["securityContext"] == {**own["securityContext"], **rights}
    for key in ("image", "command", "args", "resources"):
        assert container[key] == own[key]
    assert (copies["securityContext"], copies["image"]) == (container["securityContext"], own["image"])
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe].items() <= {**own[probe], "httpGet": {"path": "/healthz", "port": "fc-metrics"}}.items()
