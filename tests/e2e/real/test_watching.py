"""What runs beside a live Falco says what it lacks, and judges what it saw, without one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e.engine import Engine
from e2e.judge import Note
from e2e.real import load, restarts
from e2e.real.attacks import case
from e2e.real.restarts import PLAYS, Play, cast, judge
from e2e.real.services import Running


@pytest.mark.parametrize("main", [restarts.main, load.main])
def test_without_falco_each_says_that_it_is_skipped(
    main: Callable[[], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["e2e.real"])
    monkeypatch.setattr("shutil.which", lambda name: name)
    main()
    assert capsys.readouterr().out.startswith("SKIPPED: no Falco given")


def test_each_attack_with_a_restart_is_played_on_the_host_and_in_a_container() -> None:
    assert {(play.name, running.place.kind) for play, running in cast(("node",))} == {
        (play.name, kind) for play in PLAYS for kind in ("host", "container")
    }


def _told(notes: list[Note], play: Play, running: Running) -> int:
    return judge([(play, running)], {running.place.name: [(note, {}) for note in notes]}, with_plugin=False)


def test_an_attack_that_a_restart_parts_in_two_incidents_is_wrong() -> None:
    play, running = next(cast(("node",)))
    theft = case("WC")
    assert _told([Note("medium", theft, "i")], play, running) == 0
    assert _told([Note("medium", theft, "i"), Note("medium", theft, "j")], play, running) == 1


def test_what_falco_lost_is_the_last_count_that_it_wrote(tmp_path: Path) -> None:
    engine = Engine(Path("falco"), Path("plugin"), tmp_path)
    assert engine.counted("scap.n_drops") == 0
    lines = [json.dumps({"output_fields": {"scap.n_drops": count}}) for count in (3, 7)]
    engine.metrics.write_text("\n".join([*lines, '{"output_fields": {"scap.n_dr']))
    assert engine.counted("scap.n_drops") == 7
