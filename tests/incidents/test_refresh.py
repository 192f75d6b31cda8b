"""How often what changed between steps is archived: soon, but never at the cost of alerts."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents.refresh import PAUSE_SECONDS, SHORT_PAUSE_SECONDS, IncidentRefresh


def pauses_after(pipeline: Pipeline, *, took: float, left: int) -> list[float]:
    """The pauses after one refresh that took so many seconds and left so many incidents for later."""
    pauses: list[float] = []
    times = iter((10.0, 10.0 + took))

    def call_later(pause: float, _call: Callable[[], None]) -> None:
        pauses.append(round(pause, 6))

    refresh = IncidentRefresh(pipeline, cast(Any, None), clock=lambda: next(times), call_later=call_later)
    left_over = cast(Any, dict.fromkeys(map(str, range(left))))
    pipeline.correlator.updated_incidents = lambda *_: []  # type: ignore[method-assign]
    pipeline.correlator.updated = left_over
    refresh.start()
    return pauses


@pytest.mark.parametrize(("left", "pause"), [(3, SHORT_PAUSE_SECONDS), (0, PAUSE_SECONDS)])
def test_the_next_refresh_is_soon_while_there_is_more_else_after_a_second(
    pipeline: Pipeline, left: int, pause: float
) -> None:
    assert pauses_after(pipeline, took=0.0001, left=left) == [pause]


def test_refreshes_take_half_a_percent_of_the_time_at_most(pipeline: Pipeline) -> None:
    assert pauses_after(pipeline, took=0.02, left=1000) == [4.0]


def test_a_refresh_that_waited_for_the_disk_does_not_delay_the_next_for_minutes(pipeline: Pipeline) -> None:
    assert pauses_after(pipeline, took=3.0, left=1000) == [10.0]


def test_a_refresh_that_fails_is_not_the_last(pipeline: Pipeline) -> None:
    pauses: list[float] = []

    class Broken:
        archive = cast(Any, None)

        def refresh(self, *_: object) -> None:
            raise OSError("disk")

    refresh = IncidentRefresh(pipeline, Broken(), clock=lambda: 1.0, call_later=lambda pause, _: pauses.append(pause))
    pipeline.hosts_with_drops = {"node-1"}
    with pytest.raises(OSError, match="disk"):
        refresh.start()

    assert pauses == [PAUSE_SECONDS]
