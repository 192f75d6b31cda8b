"""What is published: a wheel with the rules in it, generated code that is current, layers that hold."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROTOS = ("falco/outputs.proto", "correlator/v1/incidents.proto")


@pytest.mark.slow
def test_the_wheel_carries_the_rules_and_the_recording(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("falco_correlator-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())

    assert {
        "falco_rules/correlation/web_application_rce.yaml",
        "falco_rules/correlation-rule.schema.json",
        "falco_rules/programs.yaml",
        "falco_rules/recordings/demo.jsonl",
        "sidecar/admin/pages/incident.html",
        "sidecar/admin/pages/page.css",
        "sidecar/admin/pages/copy.js",
        "sidecar/py.typed",
        "sidecar/_proto/falco/outputs_pb2.py",
    } <= names
    assert not any(name.startswith("tests/") for name in names)


def test_the_generated_protobuf_code_is_current(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    includes = Path(protoc.__file__).parent / "_proto"
    arguments = [
        "protoc",
        f"-I{ROOT / 'proto'}",
        f"-I{includes}",
        f"--python_out={tmp_path}",
        f"--pyi_out={tmp_path}",
        *PROTOS,
    ]
    assert protoc.main(arguments) == 0

    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(made) == 4
    for path in made:
        assert path.read_text() == (ROOT / "sidecar" / "_proto" / path.relative_to(tmp_path)).read_text(), (
            "run: make proto"
        )


def test_the_field_numbers_are_falcos() -> None:
    from sidecar._proto.falco import outputs_pb2

    numbers = {field.name: field.number for field in outputs_pb2.response.DESCRIPTOR.fields}

    assert numbers == {
        "time": 1,
        "priority": 2,
        "source_deprecated": 3,
        "rule": 4,
        "output": 5,
        "output_fields": 6,
        "hostname": 7,
        "tags": 8,
        "source": 9,
    }


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution."""
    pytest.importorskip("build", reason="the package `build` is in the dependency group test")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_the_package_page_links_only_to_addresses_that_work_there(published: Path) -> None:
    (wheel,) = published.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
    page = message_from_string(archive.read(name).decode())
    targets = re.findall(r"\]\(([^)]+)\)", str(page.get_payload()))

    assert {url.partition(",")[0] for url in page.get_all("Project-URL", [])} >= {"Homepage", "Issues", "Changelog"}
    assert targets
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a source distribution, without git")
def test_the_source_distribution_carries_what_its_tests_read(published: Path) -> None:
    (sdist,) = published.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    missing = {name for name in tracked.decode().split("\0") if name} - names

    assert {name for name in missing if not name.startswith(".git")} == set()


@pytest.mark.parametrize(
    ("file", "section"),
    [("docker/requirements.txt", "dependencies"), ("docker/build-requirements.txt", "build-system")],
)
def test_the_image_installs_only_pinned_versions_whose_hashes_are_known(file: str, section: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = chain.from_iterable(project["project"].get("optional-dependencies", {}).values())
    wanted = (
        [*project["project"]["dependencies"], *extras]
        if section == "dependencies"
        else project["build-system"]["requires"]
    )
    entries = re.split(r"\n(?=\S)", (ROOT / file).read_text().replace("\\\n", " "))
    pinned = {Requirement(entry.split("--hash")[0]).name: entry for entry in entries if "==" in entry}

    for requirement in map(Requirement, wanted):
        entry = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(next(iter(Requirement(entry.split("--hash")[0]).specifier)).version)
    assert [name for name, entry in pinned.items() if "--hash=sha256:" not in entry] == []
