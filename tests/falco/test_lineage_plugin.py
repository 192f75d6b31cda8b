"""The built Falco plugin, loaded over the C interface as Falco does it."""

import ctypes
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "plugin" / "target" / "release" / "liblineage.so"
CLONES, EXECS, PROCEXIT = {223, 225, 227, 335}, {293, 331}, 186

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    if not shutil.which("cargo"):
        if os.environ.get("CI") == "true":
            pytest.fail("cargo is missing, so the Falco plugin was not built")
        pytest.skip("cargo is missing; without it the Falco plugin cannot be built")
    subprocess.run(["make", "plugin"], cwd=ROOT, check=True, capture_output=True)
    return ctypes.CDLL(str(LIBRARY))


def _text(library: ctypes.CDLL, name: str) -> str:
    function = library[name]
    function.restype = ctypes.c_char_p
    answer = function()
    assert isinstance(answer, bytes)
    return answer.decode()


def test_falco_finds_its_name_and_version(library: ctypes.CDLL) -> None:
    manifest = (ROOT / "plugin" / "Cargo.toml").read_text()
    assert _text(library, "plugin_get_name") == "lineage"
    assert f'version = "{_text(library, "plugin_get_version")}"' in manifest


def test_it_asks_for_no_newer_interface_than_falco_0_40_has(library: ctypes.CDLL) -> None:
    assert _text(library, "plugin_get_required_api_version") == "3.10.0"


def test_it_answers_which_schema_of_events_it_reads(library: ctypes.CDLL) -> None:
    assert _text(library, "plugin_get_required_event_schema_version") == "4.0.0"


def test_its_fields_have_the_types_that_the_documentation_tells(library: ctypes.CDLL) -> None:
    fields = {each["name"]: (each["type"], each["isList"]) for each in json.loads(_text(library, "plugin_get_fields"))}
    assert fields == {
        "lineage.pids": ("uint64", True),
        "lineage.names": ("string", True),
        "lineage.files": ("string", True),
        "lineage.depth": ("uint64", False),
        "lineage.root": ("string", False),
        "lineage.entered": ("bool", False),
        "lineage.exact": ("bool", False),
        "lineage.serves": ("uint64", True),
        "lineage.packed": ("string", False),
    }
    documented = (ROOT / "plugin" / "README.md").read_text()
    assert all(f"`{name}`" in documented for name in fields)


def test_it_is_called_only_for_events_that_make_and_change_processes(library: ctypes.CDLL) -> None:
    count = ctypes.c_uint32()
    function = library["plugin_get_parse_event_types"]
    function.restype = ctypes.POINTER(ctypes.c_uint16)
    types = function(ctypes.byref(count), None)
    assert set(types[: count.value]) == CLONES | EXECS | {PROCEXIT}
    assert json.loads(_text(library, "plugin_get_parse_event_sources")) == ["syscall"]


ALLOWED = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT", "Unicode-3.0", "Unlicense", "Zlib"}
"""Licences that may stand in a plugin under Apache-2.0."""


def test_every_crate_in_it_may_be_shipped_under_apache_2() -> None:
    if not shutil.which("cargo"):
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("cargo is missing")
    command = [
        "cargo",
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--manifest-path",
        str(ROOT / "plugin" / "Cargo.toml"),
    ]
    packages = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["packages"]
    refused = {
        each["name"]: each["license"]
        for each in packages
        if not any(set(choice.split(" AND ")) <= ALLOWED for choice in _choices(each["license"] or ""))
    }

    assert len(packages) > 10
    assert refused == {}


def _choices(expression: str) -> list[str]:
    """The alternatives of a licence expression, of which one must be allowed."""
    plain = expression.replace("/", " OR ").replace(" WITH LLVM-exception", "")
    if " AND " in plain and "(" in plain:  # `(MIT OR Apache-2.0) AND Unicode-3.0`: each part must be allowed
        parts = [part.strip("() ") for part in plain.split(" AND ")]
        return [" AND ".join(next((one for one in part.split(" OR ") if one in ALLOWED), part) for part in parts)]
    return plain.split(" OR ")


def test_the_artifact_of_falcoctl_has_the_version_of_the_crate() -> None:
    config = json.loads((ROOT / "plugin" / "artifact" / "config.json").read_text())

    assert f'version = "{config["version"]}"' in (ROOT / "plugin" / "Cargo.toml").read_text()
    assert config["requirements"] == [{"name": "plugin_api_version", "version": "3.10.0"}]
