"""`falco-correlator doctor` reads a falco.yaml and says what correlation lacks."""

import platform
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from project.test_readme import falco_settings

from sidecar.cli.doctor import MACHINES
from sidecar.cli.main import main
from sidecar.model import APPENDED, ASKED, PACKED

HERE = MACHINES[platform.machine()]

GOOD = falco_settings("# falco.yaml, or")
GRPC = {
    **yaml.safe_load(GOOD),
    "http_output": {"enabled": False},
    "grpc": {"enabled": True},
    "grpc_output": {"enabled": True},
}


def examined(tmp_path: Path, text: str, *options: str) -> tuple[int, str]:
    file = tmp_path / "falco.yaml"
    file.write_text(text)
    result = CliRunner().invoke(main, ["doctor", str(file), *options])
    return result.exit_code, result.output


def test_the_settings_of_the_readme_are_right(tmp_path: Path) -> None:
    code, result = examined(tmp_path, GOOD)

    assert (code, result.endswith("falco.yaml, mode http: 0 wrong, 0 to consider\n")) == (0, True)


def test_grpc_settings_are_recognised_and_right(tmp_path: Path) -> None:
    code, result = examined(tmp_path, yaml.safe_dump(GRPC))

    assert (code, "mode grpc: 0 wrong" in result) == (0, True)


@pytest.mark.parametrize(
    ("change", "what", "line"),
    [
        ({"json_output": False}, "Falco sends text", "json_output: true"),
        ({"rule_matching": "first"}, "hides every second rule", "rule_matching: all"),
        ({"json_include_tags_property": False}, "recognised by their tags", "json_include_tags_property: true"),
        ({"json_include_output_fields_property": False}, "without the fields", "json_include_output_fields_property"),
        ({"http_output": {"enabled": False}}, "http_output is off", "url: http://127.0.0.1:2802/"),
        ({"http_output": {"enabled": True, "url": ""}}, "has no url", "url: http://127.0.0.1:2802/"),
        ({"append_output": []}, "stock rules lack fields", 'lineage.packed: "?1;%proc.pid;'),
        ({"outputs_queue": {"capacity": 0}}, "unbounded", "capacity: 100000"),
        ({"grpc_output": {"enabled": True}}, "0.44 no longer has it", "grpc_output:"),
    ],
)
def test_each_thing_that_is_wrong_is_told_with_the_lines_to_add(
    tmp_path: Path, change: dict[str, object], what: str, line: str
) -> None:
    _, result = examined(tmp_path, yaml.safe_dump({**yaml.safe_load(GOOD), **change}), "--mode", "http")

    assert what in result
    assert line in result


LOADED = {
    "load_plugins": ["container", "lineage"],
    "plugins": [{"name": "lineage", "library_path": "/nowhere/liblineage.so"}],
    "append_output": [{"match": {"source": "syscall"}, "extra_fields": [*APPENDED, PACKED]}],
}


def test_a_loaded_plugin_needs_fewer_fields(tmp_path: Path) -> None:
    code, result = examined(tmp_path, yaml.safe_dump({**yaml.safe_load(GOOD), **LOADED}))

    assert (code, "plugin lineage is loaded\n" in result, "0 wrong, 0 to consider" in result) == (0, True, True)


def test_without_the_plugin_it_says_what_would_be_gained(tmp_path: Path) -> None:
    assert "not loaded; with it, detections are placed by the true ancestry" in examined(tmp_path, GOOD)[1]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"load_plugins": ["container"]}, "configured, but not loaded"),
        ({"plugins": []}, "Falco will not start"),
        ({"append_output": [{"extra_fields": [*ASKED]}]}, "do not carry its ancestry"),
        ({"append_output": [{"extra_fields": [*APPENDED, {PACKED: "?1;"}]}]}, "do not carry its ancestry"),
    ],
)
def test_what_is_wrong_with_the_plugin_is_reported(tmp_path: Path, change: dict[str, object], what: str) -> None:
    assert what in examined(tmp_path, yaml.safe_dump({**yaml.safe_load(GOOD), **LOADED, **change}))[1]


@pytest.mark.parametrize(("machine", "fits"), [(HERE, True), (40, False)])
def test_a_library_for_another_machine_is_wrong(tmp_path: Path, machine: int, fits: bool) -> None:
    library = tmp_path / "liblineage.so"
    library.write_bytes(b"\x7fELF".ljust(18, b"\0") + machine.to_bytes(2, "little"))
    plugins = {"plugins": [{"name": "lineage", "library_path": str(library)}]}
    code, result = examined(tmp_path, yaml.safe_dump({**yaml.safe_load(GOOD), **LOADED, **plugins}))

    assert (code == 0, "for another machine" not in result) == (fits, fits)


def test_an_empty_default_file_is_wrong_in_three_ways_and_exits_1(tmp_path: Path) -> None:
    code, result = examined(tmp_path, "{}")

    assert (code, result.count("WRONG ")) == (1, 3)


def test_a_configmap_is_looked_into(tmp_path: Path) -> None:
    code, _ = examined(tmp_path, yaml.safe_dump({"kind": "ConfigMap", "data": {"falco.yaml": GOOD}}))

    assert code == 0


@pytest.mark.parametrize("text", ["- a", "kind: ConfigMap\ndata: {}", "a: [", "a: *x"])
def test_what_is_no_falco_yaml_exits_2(tmp_path: Path, text: str) -> None:
    code, result = examined(tmp_path, text)

    assert (code, "Traceback" in result) == (2, False)
