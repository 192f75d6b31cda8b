"""The files that GitHub and pre-commit read: valid, and naming only what exists."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCHEMAS = {
    ".github/dependabot.yml": "vendor.dependabot",
    ".github/ISSUE_TEMPLATE/bug.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/feature.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "vendor.github-issue-config",
}


@pytest.mark.slow
@pytest.mark.parametrize(("path", "schema"), SCHEMAS.items())
def test_githubs_schema_accepts_the_file(path: str, schema: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert done.returncode == 0, done.stdout


def test_the_bug_form_asks_for_the_alerts() -> None:
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    (alerts,) = (field for field in form["body"] if field.get("id") == "alerts")

    assert alerts["validations"] == {"required": True}


def test_every_path_with_an_owner_exists() -> None:
    lines = (ROOT / ".github/CODEOWNERS").read_text().splitlines()
    paths = [line.split()[0] for line in lines if line.startswith("/")]

    assert paths
    assert [path for path in paths if not (ROOT / path.strip("/")).exists()] == []


def test_pre_commit_runs_only_tools_of_the_project() -> None:
    settings = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())

    assert [repository["repo"] for repository in settings["repos"]] == ["local"]
    assert [hook["id"] for hook in settings["repos"][0]["hooks"] if not hook["entry"].startswith(".venv/bin/")] == []


@pytest.mark.parametrize(
    "name", ["CODE_OF_CONDUCT.md", "MAINTAINERS.md", "RELEASE.md", "CONTRIBUTING.md", "SECURITY.md"]
)
def test_every_relative_link_leads_to_a_file(name: str) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / name).read_text())

    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_decision_record_is_dated_and_listed() -> None:
    folder = ROOT / "docs/decisions"
    records = sorted(folder.glob("0*.md"))
    listed = re.findall(r"\((\d{4}-[\w-]+\.md)\)", (folder / "index.md").read_text())

    assert listed == [record.name for record in records]
    assert [
        record.name
        for record in records
        if not re.search(r"^Date: \d{4}-\d\d-\d\d\. Status: ", record.read_text(), re.MULTILINE)
    ] == []


def test_every_module_and_folder_that_the_architecture_names_exists() -> None:
    named = re.findall(r"`([\w.-]+/[\w./-]*|[\w]+\.py)`", (ROOT / "ARCHITECTURE.md").read_text())

    assert len(named) > 50
    assert [name for name in named if not (ROOT / name).exists() and not (ROOT / "sidecar" / name).exists()] == []


def test_all_addresses_and_teams_name_the_owner_of_the_repository() -> None:
    """RELEASE.md asks to replace the placeholder; this finds what was left out."""
    owner = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"].split("/")[3]
    address = r"(?:github\.com/|ghcr\.io/|githubusercontent\.com/|repository: )([\w-]+)/falco-correlator\b"
    team = r"@([\w-]+)/(?:maintainers|security)\b"
    files = [
        *ROOT.glob("*.*"),
        *(path for folder in ("docs", "charts", ".github") for path in (ROOT / folder).rglob("*")),
    ]
    owners = {}
    for path in (path for path in files if path.is_file() and path.suffix in ("", ".md", ".yaml", ".yml", ".toml")):
        owners[path.name] = {name for pattern in (address, team) for name in re.findall(pattern, path.read_text())}

    assert sum(map(bool, owners.values())) > 10
    assert {name: found - {owner} for name, found in owners.items() if found - {owner}} == {}
