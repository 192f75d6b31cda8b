"""The faults that others found (F1 to F9 of 2026-11), small; `make soak` repeats them with their figures."""

from pathlib import Path

import pytest
from support.damage import damages
from support.floods import evidence_after_flood_and_kill, incidents_beside_a_flood
from support.outage import disk_full_and_sink_down, second_steps_after_an_outage

from sidecar.delivery.quota import ALLOWED
from sidecar.rules.rule import CorrelationRule


def test_a_full_disk_behind_a_sink_that_was_down_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    assert disk_full_and_sink_down(tmp_path / "state.db", incidents=200, room=50) == (0, 0, 0)


def test_after_an_outage_and_a_restart_no_second_step_overtakes_its_first(tmp_path: Path) -> None:
    assert second_steps_after_an_outage(tmp_path / "state.db", pending=200, steps=50, room=50) == (0, 0, 0)


@pytest.mark.slow
def test_a_start_on_a_randomly_damaged_state_file_succeeds_or_ends_at_once_with_the_reason(tmp_path: Path) -> None:
    outcomes = damages(tmp_path, 60, seed=1)

    assert set(outcomes) <= {"starts", "refused"}
    assert outcomes["starts"] >= 55


@pytest.mark.slow
def test_a_web_shell_is_remembered_after_a_flood_of_its_own_and_a_kill(tmp_path: Path, rule: CorrelationRule) -> None:
    assert evidence_after_flood_and_kill(tmp_path, rule, alerts_between=3000)


@pytest.mark.slow
def test_beside_a_flood_of_incidents_anothers_is_shown_and_delivered_soon(
    tmp_path: Path, rule: CorrelationRule
) -> None:
    beside = incidents_beside_a_flood(tmp_path, rule, roots=1000)

    assert beside.old_one_is_shown
    assert beside.delivered_after < 30
    assert beside.messages_of_flood <= 2 * ALLOWED + 2
