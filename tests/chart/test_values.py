"""What may be written as values: every file of ci/ works under both helms, everything wrong is refused by its name."""

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chart_docs as docs
import pytest
import yaml
from chart.rendering import CI_FILES, SNAPSHOTS, Refused, call, notes, objects, refusal, snapshot, text
from chart_docs import CHART, ROOT
from chart_tools import HELM
from support import fast_yaml

VALUES: dict[str, Any] = fast_yaml.load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
FREE = {"global", "nodeSelector", "podAnnotations", "podLabels", "affinity"}
"""Values whose keys are anybody's choice, or Kubernetes' own."""

BOTH = pytest.mark.parametrize("major", HELM)
EACH = pytest.mark.parametrize("name", CI_FILES)


def paths(schema: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key that the schema knows, with those above it."""
    if "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    found = []
    for key, below in (schema.get("properties") or {}).items():
        found += [(*above, key), *paths(below, (*above, key))]
    return found


def nested(paths: list[tuple[str, ...]]) -> dict[str, Any]:
    """Values that hold something under each of these paths."""
    whole: dict[str, Any] = {}
    for path in paths:
        inside = whole
        for key in path[:-1]:
            inside = inside.setdefault(key, {})
        inside[path[-1]] = 1
    return whole


def unpack(package: Path) -> Path:
    """The chart inside a package, as a folder that a test may change."""
    with tarfile.open(package) as packed:
        packed.extractall(package.parent, filter="data")
    return package.parent / "falco-correlator"


@pytest.mark.slow
@BOTH
@EACH
def test_lint_takes_each_values_file(major: int, name: str) -> None:
    values = CHART / "ci" / f"{name}-values.yaml"

    assert "0 chart(s) failed" in call(major, "lint", "--strict", str(CHART), "--values", str(values))


@pytest.mark.slow
@BOTH
@EACH
def test_what_is_rendered_is_what_was_reviewed(major: int, name: str) -> None:
    assert snapshot(major, name) == (SNAPSHOTS / f"{name}.yaml").read_text(), "run: make snapshots, and review the diff"


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("mode", ["http", "grpc", "sidecar", "tap"])
def test_a_package_renders_each_mode_as_the_folder_does(major: int, mode: str, tmp_path: Path) -> None:
    call(major, "package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.glob("falco-correlator-*.tgz")
    sets = (f"mode={mode}", "secretPath.existingSecret=" + ("mine" if mode in ("http", "tap") else ""))

    packed = objects("default", *sets, major=major, chart=package)

    assert packed == objects("default", *sets, major=major)
    rules = next(each["data"] for each in packed if each["metadata"]["name"] == "falco-correlator-rules")
    for name in ("web_rce_rules.yaml", "crypto_mining_rules.yaml", "canary_rules.yaml"):
        assert rules[name] == (ROOT / "falco_rules" / name).read_text()


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize(
    "missing", ["falco_rules/web_rce_rules.yaml", "falco_rules/canary_rules.yaml", "files/helm_test.py"]
)
def test_a_missing_file_fails_the_rendering(major: int, missing: str, tmp_path: Path) -> None:
    call(major, "package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.glob("*.tgz")
    broken = unpack(package)
    (broken / missing).unlink()

    with pytest.raises(Refused, match=f"{missing} is missing from the chart"):
        text(major, "default", chart=broken)


@pytest.mark.slow
@BOTH
def test_every_misspelt_value_is_named(major: int, tmp_path: Path) -> None:
    known = [path for path in paths(SCHEMA) if path[0] != "global"]  # other charts of an umbrella have their own there
    wrong = tmp_path / "values.yaml"
    wrong.write_text(yaml.safe_dump(nested([(*path[:-1], path[-1] + "x") for path in known])))

    said = refusal(major=major, values=wrong)

    assert len(known) > 200
    assert [path for path in known if f"{path[-1]}x" not in said] == []


def test_the_schema_knows_exactly_the_values_that_there_are() -> None:
    written = {path for path in paths_of(VALUES) if path[0] not in FREE and "resources" not in path[:-1]}
    known = set(paths(SCHEMA))

    assert sorted(path for path in written if path not in known and path[:2] != ("falco", "podLabels")) == []
    assert sorted(path for path in known if len(path) == 1 and path[0] not in VALUES) == []


def paths_of(values: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, below in values.items():
        found += [(*above, key), *(paths_of(below, (*above, key)) if isinstance(below, dict) else [])]
    return found


def test_every_object_of_the_schema_refuses_unknown_keys() -> None:
    def open_objects(schema: Any, path: str = "") -> list[str]:
        if not isinstance(schema, dict):
            return []
        own = [path] if "properties" in schema and schema.get("additionalProperties") is not False else []
        return own + [each for key, below in schema.items() for each in open_objects(below, f"{path}/{key}")]

    named = ("extraVolumes", "extraInitContainers", "extraContainers", "/properties/global")
    assert [path for path in open_objects(SCHEMA) if not any(name in path for name in named)] == []


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ("mode=daemonset", "mode"),
        ("passThrough=some", "passThrough"),
        ("passThroughMatch=last", "passThroughMatch"),
        ("http.port=70000", "port"),
        ("http.port=high", "port"),
        ("secretPath.value=/short", "value"),
        ("secretPath.value=without-a-slash-in-front", "value"),
        ("image.digest=sha256:12", "digest"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("falcosidekick.url=falcosidekick:2801", "url"),
        ("canary.interval=1 minute", "interval"),
        ("state.type=disk", "type"),
        ("resources.limits.memory=much", "memory"),
        ("resources.limits.memroy=1Mi", "memroy"),
        ("config.settle=soon", "settle"),
        ("config.sinks.webhook.urll=http://a", "urll"),
        ("config.http.port=1", "port"),
        ("config.rules[0]=a", "rules"),
        ("config.redaction.key=secret", "key"),
        ("config.redaction.patterns[0].regex=acme", "regex"),
        ("correlationRules.files.rule\\.txt=a", "rule.txt"),
        ("prometheusRules.alerts.incident.severities[0]=severe", "severities"),
        ("prometheusRules.alerts.pressure.threshold=90", "threshold"),
        ("tolerations[0].effekt=NoSchedule", "effekt"),
        ("networkPolicy.extraEgress[0].too=a", "too"),
        ("extraEnv[0].value=a", "name"),
        ("rules.rulesfileCR.priority=99", "priority"),
    ],
)
def test_a_wrong_value_is_named(major: int, wrong: str, word: str) -> None:
    assert word in refusal(wrong, major=major)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sets", "sentence"),
    [
        (["insecure=true"], "set networkPolicy.enabled: true too, or insecure: false"),
        (["insecure=true", "networkPolicy.enabled=true", "secretPath.existingSecret=a"], "choose one"),
        (["tls.enabled=true"], "set tls.certManager.enabled: true, or tls.existingSecret"),
        (["tls.enabled=true", "tls.existingSecret=a", "tls.certManager.enabled=true"], "set only one of them"),
        (["tls.existingSecret=a"], "do nothing without tls.enabled: true"),
        (["secretPath.value=/0123456789abcdef", "secretPath.existingSecret=a"], "set only one of them"),
        (["mode=grpc", "tls.enabled=true", "tls.existingSecret=a"], "mode: grpc has no port that others can reach"),
        (["mode=grpc", "secretPath.existingSecret=a"], "they are for modes http and tap"),
        (["mode=sidecar", "insecure=true", "networkPolicy.enabled=true"], "mode: sidecar has no port"),
        (["mode=tap", "replicaCount=2"], "replicaCount: 2 in mode tap: the correlator keeps its memory in one process"),
        (["replicaCount=2"], "leave replicaCount at 1"),
        (["mode=tap", "state.type=hostPath"], "set state.type: persistentVolumeClaim or emptyDir"),
        (["state.type=persistentVolumeClaim"], "set state.type: hostPath or emptyDir"),
        (["mode=sidecar", "state.type=hostPath"], "set state.type: emptyDir or memory"),
        (["admin.port=2802"], "http.port and admin.port are both 2802"),
        (["podMonitor.enabled=true", "serviceMonitor.enabled=true"], "everything is scraped twice"),
        (["mode=sidecar", "serviceMonitor.enabled=true"], "set podMonitor.enabled instead"),
        (["falcosidekick.url="], "set falcosidekick.url, or config.sinks.stdout.enabled: true"),
        (["correlationRules.shipped=false"], "nothing would be correlated"),
        (["mode=sidecar", "correlationRules.files.a\\.yaml=b"], "mounts no rules"),
        (["state.type=hostPath", "podSecurityContext.runAsUser=null"], "set state.hostPath.prepare: false"),
        (["falcosidekick.tls.existingSecret=a"], "it has to begin with https://"),
        (["falcosidekick.tls.clientCertificate=true"], "needs falcosidekick.tls.existingSecret"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_that_contradict_each_other_are_refused_with_what_to_set(sets: list[str], sentence: str) -> None:
    assert sentence in refusal(*sets)


@pytest.mark.slow
def test_no_dashboard_in_the_chart_fails_the_rendering_that_asks_for_one(tmp_path: Path) -> None:
    call(4, "package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.glob("*.tgz")
    chart, on = unpack(package), "grafana.dashboards.enabled=true"
    folder = chart / "dashboards"
    for each in folder.glob("*.json"):
        each.unlink()

    with pytest.raises(Refused, match=r"dashboards/\*.json is missing"):
        objects("default", on, chart=chart)

    folder.mkdir(exist_ok=True)
    (folder / "falco-correlator.json").write_text('{\n  "title": "{{ not a template }}"\n}\n')
    sets = (on, "grafana.dashboards.configMaps.falco-correlator.folder=Falco")
    (made,) = (each for each in objects("default", *sets, chart=chart) if "grafana" in each["metadata"]["name"])
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert made["metadata"]["annotations"]["grafana_dashboard_folder"] == "Falco"
    assert json.loads(made["data"]["falco-correlator.json"]) == {"title": "{{ not a template }}"}


def test_the_readme_and_the_schema_are_current() -> None:
    assert (CHART / "README.md").read_text() == docs.readme(), "run: make docs"
    assert (CHART / "values.schema.json").read_text() == docs.schema(), "run: make docs"
    assert (CHART / "umbrella" / "values.yaml").read_text() == docs.umbrella(), "run: make docs"


def test_every_value_is_in_the_readme() -> None:
    leaves = [
        ".".join(path)
        for path in paths_of(VALUES)
        if not any(other[: len(path)] == path and len(other) > len(path) for other in paths_of(VALUES))
    ]
    documented = {value.path for value in docs.values((CHART / "values.yaml").read_text().splitlines())}

    assert [
        path for path in leaves if not any(path == each or path.startswith(each + ".") for each in documented)
    ] == []


def test_the_chart_says_of_itself_what_artifact_hub_shows() -> None:
    chart = fast_yaml.load((CHART / "Chart.yaml").read_text())
    about = {key.partition("/")[2]: value for key, value in chart["annotations"].items()}

    assert {"category", "license", "images", "links", "changes", "prerelease", "recommendations"} <= set(about)
    assert fast_yaml.load(about["images"])[0]["image"].endswith(f"falco-correlator:{chart['appVersion']}")
    assert {each["kind"] for each in fast_yaml.load(about["changes"])} <= {
        "added", "changed", "deprecated", "removed", "fixed", "security"
    }  # fmt: skip
    assert chart["kubeVersion"]
    from sidecar import __version__

    assert chart["appVersion"] == __version__


@pytest.mark.slow
def test_the_notes_print_the_command_and_no_secret() -> None:
    said = notes("default")

    assert "get configmap falco-correlator-falco-values -o go-template='{{index .data \"falco-0.44.yaml\"}}'" in said
    assert "--set falcosidekick.enabled=true -f falco-0.44.yaml" in said
    assert "port-forward POD 2812" in said
    assert (
        'echo "http://falco-correlator.falco.svc:2802$(kubectl get secret -n falco falco-correlator-secret-path '
        '-o go-template=\'{{index .data "secret-path" | base64decode}}\')"' in said
    )
    assert "set secretPath.existingSecret" in said
    assert "helm test falco-correlator -n falco --logs" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("grpc", "-f falco-0.43.yaml"),
        ("grpc", "must be the only gRPC reader"),
        ("sidecar", "-f falco-sidecar.yaml"),
        ("tap", "-f falco-tap.yaml"),
        ("tap", "(webhook.address):\n\n  echo"),
        ("http-insecure", "only the NetworkPolicy keeps forged alerts out"),
        ("http-insecure", "http://falco-correlator.falco.svc:2802/\n"),
        ("http-insecure", "nobody will notice"),
    ],
)
def test_the_notes_of_a_mode(name: str, line: str) -> None:
    assert line in notes(name)


FALCO_RULES = ("canary_rules.yaml", "crypto_mining_rules.yaml", "web_rce_rules.yaml")


def test_every_chain_of_attacks_that_ships_is_in_the_chart() -> None:
    shipped = {path.stem.replace("_", "-") for path in (ROOT / "falco_rules" / "correlation").glob("*.yaml")}
    files = {path.name for path in (ROOT / "falco_rules").glob("*_rules.yaml")}

    assert set(VALUES["correlationRules"]["chains"]) == shipped
    assert {path.name for path in (CHART / "falco_rules").iterdir()} == files == set(FALCO_RULES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chains", "files", "rules"),
    [
        ("{web-application-rce,crypto-mining}", FALCO_RULES, None),
        ("{web-application-rce}", ("canary_rules.yaml", "web_rce_rules.yaml"), ["shipped/web-application-rce"]),
        ("{crypto-mining}", ("canary_rules.yaml", "crypto_mining_rules.yaml"), ["shipped/crypto-mining"]),
    ],
)
def test_chains_of_attacks_can_be_left_out(chains: str, files: Sequence[str], rules: list[str] | None) -> None:
    made = {
        each["metadata"]["name"]: each["data"]
        for each in objects("default", f"correlationRules.chains={chains}")
        if each["kind"] == "ConfigMap"
    }

    assert tuple(name for name in made["falco-correlator-rules"]) == files
    settings = fast_yaml.load(made["falco-correlator"]["config.yaml"])
    assert settings.get("rules") == rules


@pytest.mark.slow
def test_the_falco_operator_gets_the_same_rules_and_the_local_ones_last() -> None:
    made = {
        each["metadata"]["name"]: each["spec"] for each in objects("http-state-on-node") if each["kind"] == "Rulesfile"
    }
    texts = [(ROOT / "falco_rules" / name).read_text() for name in FALCO_RULES]
    local = fast_yaml.load((CHART / "ci" / "http-state-on-node-values.yaml").read_text())["rules"]["local"]

    assert [spec["inlineRules"] for spec in made.values()] == [fast_yaml.load(text) for text in (*texts, local)]
    assert [spec["priority"] for spec in made.values()] == [50, 50, 50, 51]
