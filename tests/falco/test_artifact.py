"""What falcoctl needs to publish the rules agrees with the rules, and the configuration snippets with their purpose."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from falco.ruleset import shipped

from sidecar.alerts.ancestry import GUESS
from sidecar.model import APPENDED, PACKED

SHIPPED = Path(__file__).parents[2] / "falco_rules"
SNIPPETS = sorted((SHIPPED / "config.d").glob("*.yaml"))


def metadata() -> Any:
    return json.loads((SHIPPED / "artifact" / "config.json").read_text())


def test_the_engine_requirement_is_that_of_the_rules() -> None:
    needed = shipped().items[0]["required_engine_version"]
    assert metadata()["requirements"] == [{"name": "engine_version_semver", "version": needed}]


def test_the_container_plugin_is_a_dependency() -> None:
    assert [dependency["name"] for dependency in metadata()["dependencies"]] == ["container"]


def test_the_registry_entry_names_the_same_artifact() -> None:
    entry = yaml.safe_load((SHIPPED / "artifact" / "registry.yaml").read_text())["rulesfiles"][0]
    assert entry["name"] == metadata()["name"]


@pytest.mark.parametrize("path", SNIPPETS, ids=lambda path: path.name)
def test_snippet_lets_every_rule_speak_with_the_fields_that_correlation_needs(path: Path) -> None:
    snippet = yaml.safe_load(path.read_text())
    assert snippet["rule_matching"] == "all"
    assert snippet["outputs_queue"]["capacity"] > 0
    assert snippet["append_output"][-1]["match"] == {"source": "syscall"}
    assert snippet["append_output"][-1]["extra_fields"] == [*APPENDED, {PACKED: GUESS}]


def test_http_is_for_falco_0_44_and_grpc_for_falco_0_43() -> None:
    new, old = (yaml.safe_load((SHIPPED / "config.d" / f"falco-{v}.yaml").read_text()) for v in ("0.44", "0.43"))
    assert new["http_output"]["enabled"]
    assert new["json_output"]
    assert "grpc" not in new
    assert old["grpc"]["enabled"]
    assert old["grpc_output"]["enabled"]
