"""README and the page on wiring are true: their commands run and their YAML is what the service and Falco take."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import DATA, Running
from support.site_with_incidents import running

from sidecar.alerts.ancestry import GUESS
from sidecar.model import APPENDED, PACKED
from sidecar.rules.rule import CorrelationRule
from sidecar.settings.schema import Settings
from sidecar.storage.state import State
from sidecar.yamlfile.typed import build

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
WIRING = (ROOT / "docs" / "wiring.md").read_text()
BIN = Path(sys.executable).parent


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def falco_settings(first_line: str) -> str:
    return next(block for block in blocks("yaml", WIRING) if block.startswith(first_line))


def commands() -> list[str]:
    lines = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("falco-correlator") and " run --config" not in line]


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with running() as serving:
        yield serving


@pytest.mark.slow
@pytest.mark.parametrize("command", commands())
def test_each_command_of_the_readme_runs(command: str, tmp_path: Path, service: Running) -> None:
    State(tmp_path / "state.db", keep=3600).close()
    (tmp_path / "alerts.jsonl").write_bytes((DATA / "stock_alerts.jsonl").read_bytes())
    (tmp_path / "falco.yaml").write_text(falco_settings("# falco.yaml, or"))
    (tmp_path / "falco-correlator.yaml").write_text(blocks("yaml")[0])
    (tmp_path / "my-rules").mkdir()
    (tmp_path / "my-rules" / "rule.yaml").write_bytes((DATA / "crypto_mining.yaml").read_bytes())
    done = subprocess.run(
        [BIN / "falco-correlator", *shlex.split(command)[1:]],
        cwd=tmp_path,
        env={
            "FALCO_CORRELATOR_SINKS__STDOUT__ENABLED": "true",
            "FALCO_CORRELATOR_URL": f"http://127.0.0.1:{service.service.admin_port}",
            "PATH": str(BIN),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


OWN_SETTINGS = [b for page in (README, WIRING) for b in blocks("yaml", page) if b.startswith("# falco-correlator.yaml")]


@pytest.mark.parametrize("block", OWN_SETTINGS)
def test_each_settings_file_of_the_readme_and_the_wiring_is_valid(block: str) -> None:
    assert build(Settings, yaml.safe_load(block), "README").sinks.falcosidekick.url == "http://falcosidekick:2801"


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) < 150


def test_the_documented_falco_files_are_yaml_and_ask_for_what_correlation_needs() -> None:
    newer = yaml.safe_load(falco_settings("# falco.yaml, or"))
    older = yaml.safe_load(falco_settings("# falco.yaml, beside"))

    assert (newer["json_output"], newer["rule_matching"]) == (True, "all")
    assert newer["append_output"][0]["extra_fields"] == [*APPENDED, {PACKED: GUESS}]
    assert older["grpc_output"] == {"enabled": True}


def test_the_case_table_of_the_readme_is_that_of_the_rule(rule: CorrelationRule) -> None:
    rows = re.findall(r"^\| ([A-Z][^|]+) \| (\w+) \(", README, re.MULTILINE)

    assert [(case.name, case.severity) for case in rule.cases] == rows


def test_make_has_every_target_that_the_readme_and_contributing_name() -> None:
    named = set(re.findall(r"`make ([a-z0-9-]+)", README + (ROOT / "CONTRIBUTING.md").read_text()))
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert named <= targets


def test_every_row_of_the_threat_model_names_tests_that_exist() -> None:
    rows = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("|")][2:]
    tests = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }

    assert len(rows) >= 20
    assert [row for row in rows if not (named := re.findall(r"`(test_\w+)`", row)) or not set(named) <= tests] == []
