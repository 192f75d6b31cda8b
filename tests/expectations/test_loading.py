"""Expectation files: every mistake is told at once, and an entry that would cover anything is one.

Covers: `expectations.spec`.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.cli import json_schema
from sidecar.errors import ConfigError
from sidecar.expectations.loading import load
from sidecar.rules.loading import SHIPPED

ENTRY: dict[str, Any] = {"id": "one", "why": "it backs up", "commands": ["wal-g wal-push *"]}


def written(path: Path, *entries: dict[str, Any], **keys: Any) -> Path:
    file = path / "file.yaml"
    file.write_text(
        yaml.safe_dump({"product": "Product", "place": {"images": ["*/app"]}, "entries": list(entries), **keys})
    )
    return file


def problems(path: Path, *entries: dict[str, Any], **keys: Any) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load([written(path, *entries, **keys)])
    return [problem.partition(": ")[2] for problem in raised.value.problems]


def test_a_file_gives_its_entries(tmp_path: Path) -> None:
    assert [entry.id for entry in load([written(tmp_path, ENTRY)])] == ["one"]


@pytest.mark.parametrize(
    "command",
    [
        "sh",
        "bash -i",
        "sh -c *",
        "sh -c ** ",
        "python3 -",
        "python3* *",
        "node",
        "perl -e *",
        "* x",
        "**",
        "sh -c backup **",
    ],
)
def test_an_entry_that_covers_whatever_is_typed_is_refused(command: str, tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, ENTRY | {"commands": [command]})

    assert "entries[0].commands[0]" in problem


def test_an_entry_for_every_place_is_refused(tmp_path: Path) -> None:
    assert "place: is missing" in problems(tmp_path, ENTRY, place={})[0]
    assert "stands for every place" in problems(tmp_path, ENTRY, place={"images": ["*"]})[0]


def test_every_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    bad = {"id": "", "why": "x", "commands": [], "until": "soon"}
    with pytest.raises(ConfigError) as raised:
        load([written(tmp_path, ENTRY, bad)])

    assert len(raised.value.problems) == 3
    assert all(problem.startswith(f"{tmp_path}/file.yaml:") for problem in raised.value.problems)


def test_ids_are_unique_over_all_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two entries have the id 'one'"):
        load([written(tmp_path, ENTRY, copy.deepcopy(ENTRY))])


def test_the_published_schema_is_that_of_the_code() -> None:
    published = json.loads((SHIPPED / "expectation.schema.json").read_text())

    assert json_schema.for_kind("expectation") == published, (
        "run: falco-correlator schema expectation > falco_rules/expectation.schema.json"
    )
