"""The stage of a live run shows each scenario its own programs."""

from pathlib import Path

import pytest
from e2e import tree
from e2e.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    actor = tmp_path / "actor"
    actor.write_text("actor")
    return Stage(tmp_path / "root", actor)


def test_the_program_behind_a_name_is_that_of_the_scenario_which_plays(stage: Stage) -> None:
    for entry in ("[exe=/usr/bin/id] /opt/x", "[exe=/usr/bin/cat] /opt/x"):
        stage.install(tree.parse(entry))
    assert str((stage.root / "opt/x").readlink()) == "/usr/bin/cat"


def test_a_program_of_its_own_replaces_the_link_of_an_earlier_scenario(stage: Stage) -> None:
    for entry in ("[exe=/usr/bin/id] /opt/x", "/opt/x"):
        stage.install(tree.parse(entry))
    assert not (stage.root / "opt/x").is_symlink()
    assert (stage.root / "usr/bin/id").read_text() == "actor"
