"""The check before an upgrade: a Job that reads the new rules, and fails before anything of the release changes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.rendering import Object, call
from chart_docs import CHART

from sidecar.rules.loading import SHIPPED

pytestmark = pytest.mark.slow

RULE = (Path(__file__).parents[1] / "data" / "crypto_mining.yaml").read_text()
EXPECTATION = (SHIPPED / "expected" / "galera.yaml").read_text().replace("galera", "ours")


def made(folder: Path, values: dict[str, Any]) -> list[Object]:
    """The objects of the hook."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    text = call(4, "template", "falco-correlator", str(CHART), "-n", "falco", "--values", str(file))
    objects = [each for each in yaml.safe_load_all(text) if each]
    return [
        each for each in objects if "pre-upgrade" in (each["metadata"].get("annotations") or {}).get("helm.sh/hook", "")
    ]


def ran(folder: Path, objects: list[Object]) -> subprocess.CompletedProcess[str]:
    """The command of the Job with its volume laid out below the folder."""
    config, job = objects
    spec = job["spec"]["template"]["spec"]
    for item in spec["volumes"][0]["configMap"]["items"]:
        file = folder / "check" / item["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(config["data"][item["key"]])
    (container,) = spec["containers"]
    arguments = [each.replace("/check", str(folder / "check")) for each in container["args"]]
    command = [str(Path(sys.executable).parent / container["command"][0]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})


def test_good_rules_and_expectations_pass(tmp_path: Path) -> None:
    objects = made(
        tmp_path, {"correlationRules": {"files": {"m.yaml": RULE}}, "expectations": {"files": {"e.yaml": EXPECTATION}}}
    )
    done = ran(tmp_path, objects)

    assert [each["kind"] for each in objects] == ["ConfigMap", "Job"]
    assert done.returncode == 0, done.stdout + done.stderr
    assert "crypto-mining: ok" in done.stdout


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"correlationRules": {"files": {"m.yaml": RULE.replace("when:", "wen:", 1)}}}, "did you mean 'when'"),
        ({"correlationRules": {"files": {"m.yaml": RULE, "n.yaml": RULE}}}, "ids must be unique"),
        ({"expectations": {"files": {"e.yaml": "entries: 5\n"}}}, "e.yaml"),
    ],
    ids=["a misspelt key", "an id twice", "an expectation that is none"],
)
def test_a_mistake_fails_the_upgrade_and_is_named(values: dict[str, Any], said: str, tmp_path: Path) -> None:
    objects = made(tmp_path, values)
    done = ran(tmp_path, objects)

    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    (container,) = objects[1]["spec"]["template"]["spec"]["containers"]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_it_is_tried_once_and_its_rules_come_before_it(tmp_path: Path) -> None:
    config, job = made(tmp_path, {"correlationRules": {"files": {"m.yaml": RULE}}})

    assert int(config["metadata"]["annotations"]["helm.sh/hook-weight"]) < 0
    assert "helm.sh/hook-weight" not in job["metadata"]["annotations"]
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] == 300


def test_it_has_no_token_no_privilege_and_is_not_behind_the_service(tmp_path: Path) -> None:
    _, job = made(tmp_path, {"correlationRules": {"files": {"m.yaml": RULE}}})
    template = job["spec"]["template"]
    spec, (container,) = template["spec"], template["spec"]["containers"]

    assert spec["automountServiceAccountToken"] is False
    assert (spec["securityContext"]["runAsNonRoot"], spec["securityContext"]["seccompProfile"]["type"]) == (
        True,
        "RuntimeDefault",
    )
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"] == "128Mi"
    assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "falco-correlator-check"


@pytest.mark.parametrize(
    "values",
    [{}, {"check": {"enabled": False}, "correlationRules": {"files": {"m.yaml": RULE}}}],
    ids=["no files", "off"],
)
def test_without_files_or_when_it_is_off_there_is_no_job(values: dict[str, Any], tmp_path: Path) -> None:
    assert made(tmp_path, values) == []
