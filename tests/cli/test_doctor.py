"""`falco-correlator doctor` reads a falco.yaml and says what correlation lacks."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from project.test_readme import blocks

from sidecar.cli.main import main

GOOD = next(block for block in blocks("yaml") if block.startswith("# falco.yaml, or"))
GRPC = {
    **yaml.safe_load(GOOD),
    "http_output": {"enabled": False},
    "grpc": {"enabled": True},
    "grpc_output": {"enabled": True},
}


def examined(tmp_path: Path, text: str, *options: str) -> tuple[int, str]:
    file = tmp_path / "falco.yaml"
    file.write_text(text)
    told = CliRunner().invoke(main, ["doctor", str(file), *options])
    return told.exit_code, told.output


def test_the_settings_of_the_readme_are_right(tmp_path: Path) -> None:
    code, told = examined(tmp_path, GOOD)

    assert (code, told.endswith("falco.yaml, mode http: 0 wrong, 0 to consider\n")) == (0, True)


def test_grpc_settings_are_recognised_and_right(tmp_path: Path) -> None:
    code, told = examined(tmp_path, yaml.safe_dump(GRPC))

    assert (code, "mode grpc: 0 wrong" in told) == (0, True)


@pytest.mark.parametrize(
    ("change", "what", "line"),
    [
        ({"json_output": False}, "Falco sends text", "json_output: true"),
        ({"rule_matching": "first"}, "hides every second rule", "rule_matching: all"),
        ({"json_include_tags_property": False}, "recognised by their tags", "json_include_tags_property: true"),
        ({"json_include_output_fields_property": False}, "without the fields", "json_include_output_fields_property"),
        ({"http_output": {"enabled": False}}, "http_output is off", "url: http://127.0.0.1:2802/"),
        ({"http_output": {"enabled": True, "url": ""}}, "has no url", "url: http://127.0.0.1:2802/"),
        ({"append_output": []}, "stock rules lack fields", '"proc.pid"'),
        ({"outputs_queue": {"capacity": 0}}, "unbounded", "capacity: 100000"),
        ({"grpc_output": {"enabled": True}}, "0.44 no longer has it", "grpc_output:"),
    ],
)
def test_each_thing_that_is_wrong_is_told_with_the_lines_to_add(
    tmp_path: Path, change: dict[str, object], what: str, line: str
) -> None:
    _, told = examined(tmp_path, yaml.safe_dump({**yaml.safe_load(GOOD), **change}), "--mode", "http")

    assert what in told
    assert line in told


def test_an_empty_default_file_is_wrong_in_three_ways_and_exits_1(tmp_path: Path) -> None:
    code, told = examined(tmp_path, "{}")

    assert (code, told.count("WRONG ")) == (1, 3)


def test_a_configmap_is_looked_into(tmp_path: Path) -> None:
    code, _ = examined(tmp_path, yaml.safe_dump({"kind": "ConfigMap", "data": {"falco.yaml": GOOD}}))

    assert code == 0


@pytest.mark.parametrize("text", ["- a", "kind: ConfigMap\ndata: {}", "a: [", "a: *x"])
def test_what_is_no_falco_yaml_exits_2(tmp_path: Path, text: str) -> None:
    code, told = examined(tmp_path, text)

    assert (code, "Traceback" in told) == (2, False)
