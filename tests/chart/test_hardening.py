"""Each line of hardening by its name, in what is rendered; a mode that needs more says so and gets no more than that."""

from typing import Any

import pytest
import yaml
from chart.rendering import CI_FILES, Object, helm_test, objects, one, pod
from chart_docs import CHART

from sidecar.settings.schema import Settings
from sidecar.settings.section import Reloaded, leaves

pytestmark = pytest.mark.slow

WITH_PODS = [name for name in CI_FILES if name != "sidecar"]
RESTRICTED = ["default", "http-mtls", "http-existing-secrets", "http-insecure", "tap"]
EACH = pytest.mark.parametrize("name", WITH_PODS)


def containers(template: Object) -> list[Object]:
    spec: Object = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def pods(name: str) -> list[Object]:
    test = helm_test(name)
    return [pod(name), *([test] if test else [])]


def named(name: str, *sets: str) -> Object:
    """The ConfigMap of that name."""
    (found,) = (
        each for each in objects("default", *sets) if (each["kind"], each["metadata"]["name"]) == ("ConfigMap", name)
    )
    return found


def main(name: str, *sets: str) -> Object:
    (found,) = (each for each in pod(name, *sets)["spec"]["containers"] if each["name"] == "falco-correlator")
    container: Object = found
    return container


@pytest.mark.parametrize("name", RESTRICTED)
def test_pods_run_as_65532_and_never_as_root(name: str) -> None:
    for each in pods(name):
        context = each["spec"]["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (True, 65532, 65532)


def test_uid_0_is_for_grpc_only_and_not_for_its_test() -> None:
    context = pod("grpc")["spec"]["securityContext"]

    assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (False, 0, 0)
    test = helm_test("grpc")
    assert test
    assert test["spec"]["securityContext"]["runAsUser"] == 65532


@EACH
def test_the_root_file_system_is_read_only(name: str) -> None:
    assert all(c["securityContext"]["readOnlyRootFilesystem"] for each in pods(name) for c in containers(each))


@EACH
def test_there_are_no_capabilities(name: str) -> None:
    found = [c["securityContext"]["capabilities"] for each in pods(name) for c in containers(each)]

    assert all(each["drop"] == ["ALL"] for each in found)
    added = [each["add"] for each in found if "add" in each]
    assert added == ([["CHOWN"]] if name == "http-state-on-node" else [])


@EACH
def test_seccomp_is_the_runtimes_default(name: str) -> None:
    assert all(each["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"} for each in pods(name))


@EACH
def test_privileges_do_not_grow(name: str) -> None:
    found = [c["securityContext"] for each in pods(name) for c in containers(each)]

    assert all(each["allowPrivilegeEscalation"] is False and not each.get("privileged") for each in found)


@EACH
def test_there_is_no_token_and_no_rbac(name: str) -> None:
    assert all(each["spec"]["automountServiceAccountToken"] is False for each in pods(name))
    assert one("ServiceAccount", name)["automountServiceAccountToken"] is False
    assert [each["kind"] for each in objects(name) if "rbac" in each["apiVersion"]] == []


@EACH
def test_no_pod_shares_the_nodes_namespaces(name: str) -> None:
    assert not any(
        each["spec"].get(key) for each in pods(name) for key in ("hostNetwork", "hostPID", "hostIPC", "hostUsers")
    )


@pytest.mark.parametrize("name", RESTRICTED)
def test_the_volumes_are_those_of_restricted_pod_security(name: str) -> None:
    allowed = {"configMap", "emptyDir", "secret", "persistentVolumeClaim", "projected", "downwardAPI", "csi"}

    assert {key for each in pods(name) for v in each["spec"]["volumes"] for key in v if key != "name"} <= allowed


def test_the_socket_directory_is_mounted_read_only() -> None:
    assert {"name": "falco-socket", "mountPath": "/run/falco", "readOnly": True} in main("grpc")["volumeMounts"]


@EACH
def test_resources_are_asked_for_and_limited(name: str) -> None:
    resources = main(name)["resources"]

    assert resources["requests"]["memory"] == "64Mi"
    assert resources["limits"]["memory"] == "128Mi"
    assert all({"cpu", "memory"} <= set(c["resources"]["limits"]) for each in pods(name) for c in containers(each))


@EACH
def test_there_are_three_probes_and_none_depends_on_the_port_for_alerts(name: str) -> None:
    container = main(name)
    asked = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]

    assert asked == [{"path": path, "port": "metrics"} for path in ("/healthz", "/healthz", "/readyz")]
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > 30, "a new pod waits 30 s for the state's lock"


@pytest.mark.parametrize("name", WITH_PODS)
def test_readiness_never_gates_ingest(name: str) -> None:
    assert one("Service", name)["spec"]["publishNotReadyAddresses"] is True


@pytest.mark.parametrize("name", ["default", "http-mtls", "grpc"])
def test_falco_talks_to_the_correlator_of_its_own_node_on_all_nodes(name: str) -> None:
    assert one("Service", name)["spec"]["internalTrafficPolicy"] == "Local"
    assert pod(name)["spec"]["tolerations"] == [{"operator": "Exists"}]
    assert pod(name)["spec"]["priorityClassName"] == "system-node-critical"
    assert one("ResourceQuota", name)["spec"]["scopeSelector"]["matchExpressions"][0]["values"] == [
        "system-node-critical"
    ]


def test_the_replica_of_tap_leaves_a_dead_node_and_is_reached_from_all() -> None:
    assert "tolerations" not in pod("tap")["spec"]
    assert "internalTrafficPolicy" not in one("Service", "tap")["spec"]


def test_an_update_has_one_user_of_the_state_at_a_time() -> None:
    assert one("DaemonSet", "default")["spec"]["updateStrategy"]["rollingUpdate"] == {
        "maxUnavailable": 1,
        "maxSurge": 0,
    }
    assert one("Deployment", "tap")["spec"]["strategy"] == {"type": "Recreate"}


def test_only_tap_has_a_disruption_budget() -> None:
    assert one("PodDisruptionBudget", "tap")["spec"]["maxUnavailable"] == 1
    assert [name for name in WITH_PODS for each in objects(name) if each["kind"] == "PodDisruptionBudget"] == ["tap"]


def test_state_lies_on_its_own_volume() -> None:
    def volume(name: str) -> Any:
        return next((v for v in pod(name)["spec"]["volumes"] if v["name"] == "state"), None)

    assert volume("default") == {"name": "state", "emptyDir": {"sizeLimit": "256Mi"}}
    assert volume("http-state-on-node")["hostPath"]["path"] == "/var/lib/falco-correlator"
    assert volume("tap") == {"name": "state", "persistentVolumeClaim": {"claimName": "falco-correlator-state"}}
    assert volume("http-insecure") is None


def test_only_a_setting_that_needs_a_restart_restarts_the_pods() -> None:
    restarts = pod("default", "config.http.max_connections=5")

    assert restarts["metadata"] != pod("default")["metadata"]


@pytest.mark.parametrize(
    "change",
    [
        "correlationRules.files.a\\.yaml=b",
        "config.log_level=debug",
        "config.coalesce=1ms",
        "config.cluster=prod",
        "config.url=https://falco.example",
        "config.redaction.patterns[0].name=ACME",
    ],
)
def test_a_rule_or_a_setting_that_is_reloaded_restarts_no_pod(change: str) -> None:
    sets = [change]
    if "patterns" in change:
        sets += [f"config.redaction.patterns[0].{key}=acme_x" for key in ("pattern", "example")]

    assert pod("default", *sets) == pod("default")


def test_the_settings_that_restart_no_pod_are_those_that_are_reloaded() -> None:
    helper = (CHART / "templates" / "_helpers.tpl").read_text().partition('"falco-correlator.restarting"')[2]
    reloaded = [leaf.keys for leaf in leaves(Settings()) if leaf.has(Reloaded)]
    named = {keys[0] if len(keys) == 1 or keys[0] == "programs" else keys[1] for keys in reloaded}

    assert {name for name in named if f'"{name}"' not in helper.partition("{{- end }}\n\n")[0]} == set()


def test_the_image_is_named_by_digest_and_from_another_registry() -> None:
    assert "@sha256:0123" in main("http-mtls")["image"]
    repository = main("default")["image"].partition("/")[2].partition(":")[0]
    assert main("default", "image.registry=mirror.example:5000", "image.tag=1.2.3")["image"] == (
        f"mirror.example:5000/{repository}:1.2.3"
    )
    assert pod("http-existing-secrets")["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_the_network_policy_lets_in_falco_and_out_to_falcosidekick_and_names() -> None:
    spec = one("NetworkPolicy", "http-mtls")["spec"]

    assert spec["policyTypes"] == ["Ingress", "Egress"]
    falco = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "falco"}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": "falco"}},
    }
    assert spec["ingress"][0]["ports"] == [{"port": 2802, "protocol": "TCP"}]
    assert spec["ingress"][0]["from"][0] == falco
    assert [port["port"] for rule in spec["egress"] for port in rule["ports"]] == [53, 53, 2801]
    tap = one("NetworkPolicy", "tap")["spec"]
    assert tap["ingress"][0]["from"][0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "falcosidekick"}
    assert tap["egress"][-1]["ports"] == [{"port": 443, "protocol": "TCP"}]


def test_every_hook_of_the_user_is_used() -> None:
    template, container = pod("http-state-on-node"), main("http-state-on-node")
    spec = template["spec"]

    assert template["metadata"]["labels"]["example.com/team"] == "security"
    assert template["metadata"]["annotations"]["example.com/team"] == "security"
    assert [each["name"] for each in container["env"]] == [
        "FALCO_CORRELATOR_NODE",
        "FALCO_CORRELATOR_SINKS__STDOUT__FORMAT",
    ]
    assert container["envFrom"] == [{"configMapRef": {"name": "correlator-env", "optional": True}}]
    assert {"name": "events", "mountPath": "/events"} in container["volumeMounts"]
    assert {"name": "events", "emptyDir": {}} in spec["volumes"]
    assert [each["name"] for each in spec["initContainers"]] == ["prepare-state", "before"]
    assert [each["name"] for each in spec["containers"]] == ["falco-correlator", "beside"]
    assert any(each["metadata"]["name"] == "falco-correlator-more" for each in objects("http-state-on-node"))


@pytest.mark.parametrize(("name", "host_paths"), [("grpc", True), ("http-state-on-node", True)])
def test_openshift_allows_what_the_mode_needs_and_no_more(name: str, host_paths: bool) -> None:
    scc = one("SecurityContextConstraints", name)

    assert scc["allowHostDirVolumePlugin"] is host_paths
    assert scc["allowPrivilegedContainer"] is scc["allowHostNetwork"] is scc["allowHostPID"] is False
    assert scc["allowedCapabilities"] == ([] if name == "grpc" else ["CHOWN"])
    assert one("ServiceAccount", name)["metadata"]["name"] in scc["users"][0]


def test_openshift_chooses_the_ids_where_they_are_null() -> None:
    ids = [f"podSecurityContext.{name}=null" for name in ("runAsUser", "runAsGroup", "fsGroup")]
    context = pod("default", *ids)["spec"]["securityContext"]

    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_the_service_can_be_reached_over_both_families() -> None:
    assert "ipFamilyPolicy" not in one("Service", "default")["spec"]
    assert one("Service", "default", "service.ipFamilyPolicy=PreferDualStack")["spec"]["ipFamilyPolicy"] == (
        "PreferDualStack"
    )


def test_a_helm_test_stays_until_its_log_was_read() -> None:
    """`helm test --logs` reads the log after the hooks were deleted."""
    test = helm_test("default")
    assert test
    assert test["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation"


def test_falcosidekicks_authority_and_our_certificate_are_mounted_where_the_settings_say() -> None:
    values = (
        "falcosidekick.url=https://f:2801",
        "falcosidekick.tls.existingSecret=fs",
        "falcosidekick.tls.clientCertificate=true",
    )
    spec = pod("default", *values)["spec"]
    settings = yaml.safe_load(named("falco-correlator", *values)["data"]["config.yaml"])
    (mount,) = (each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "falcosidekick-tls")
    (volume,) = (each for each in spec["volumes"] if each["name"] == "falcosidekick-tls")

    assert volume["secret"]["secretName"] == "fs"
    assert settings["sinks"]["falcosidekick"]["tls"] == {
        name: f"{mount['mountPath']}/{file}"
        for name, file in (("ca", "ca.crt"), ("cert", "tls.crt"), ("key", "tls.key"))
    }


def test_reports_of_the_service_name_the_node_and_not_the_pod() -> None:
    (node,) = (each for each in main("default")["env"] if each["name"] == "FALCO_CORRELATOR_NODE")

    assert node["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"
