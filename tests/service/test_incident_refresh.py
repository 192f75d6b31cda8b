"""How often what changed in silence is kept: soon, but never at the cost of alerts."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sidecar.service.incident_refresh import EVERY, SOON, Incidents


class Loop:
    """Notes the pauses that are asked for."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def call_later(self, pause: float, _call: object) -> None:
        self.pauses.append(round(pause, 6))


def looked(monkeypatch: pytest.MonkeyPatch, *, took: float, left: int, broken: bool = False) -> list[float]:
    """The pauses after one look that took so many seconds and left so many incidents for later."""
    loop, times = Loop(), iter((10.0, 10.0 + took))
    correlator = SimpleNamespace(
        updated=dict.fromkeys(range(left)), updated_incidents=lambda *_: 1 / 0 if broken else []
    )
    pipeline = SimpleNamespace(correlator=correlator, hosts_with_drops=set())
    made = Incidents(cast(Any, pipeline), cast(Any, None))
    correlator.updated = dict.fromkeys(range(left))
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    monkeypatch.setattr("sidecar.service.incident_refresh.time.perf_counter", lambda: next(times))
    if broken:
        with pytest.raises(ZeroDivisionError):
            made.start()
    else:
        made.start()
    return loop.pauses


def test_the_next_look_is_soon_while_there_is_more_else_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch, took=0.0001, left=3) == [SOON]
    assert looked(monkeypatch, took=0.0001, left=0) == [EVERY]


def test_looks_take_half_a_percent_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch, took=0.02, left=1000) == [4.0]


def test_a_look_that_waited_for_the_disk_is_not_the_last_for_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch, took=3.0, left=1000) == [10.0]


def test_a_look_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch, took=0.0001, left=3, broken=True) == [SOON]
