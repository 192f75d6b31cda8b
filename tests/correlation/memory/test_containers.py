"""Pending detections that nothing can explain any more make room, and only then."""

import pytest
from conftest import Clock

from sidecar.correlation.memory.container import Container
from sidecar.correlation.memory.containers import SWEEP_SHARE, Containers
from sidecar.model import Alert, Fields

WINDOW = 900 * 10**9
SKEW = 150 * 10**9
NOW = 10**18
LONG_AGO = NOW - 2 * WINDOW - SKEW


def waiting(containers: Containers, cid: str, time: int) -> Container:
    """A container with one detection more that waits since `time`."""
    alert = Alert(time, "node-1", "rule", (), Fields(pid=1, container_id=cid))
    container = containers.get_or_create(alert)
    container.pending.add(0, 1, alert, 0)
    containers.account(container, time)
    return container


@pytest.mark.parametrize(
    ("waits_since", "share_used", "left"),
    [
        (LONG_AGO, SWEEP_SHARE + 0.1, 0),
        (LONG_AGO, SWEEP_SHARE - 0.1, 1),
        (NOW - WINDOW - WINDOW // 4 - SKEW, SWEEP_SHARE + 0.1, 1),
    ],
    ids=["no room", "room enough", "no room, but explained by a late alert perhaps"],
)
def test_pending_detections_beyond_window_and_skew_are_swept_when_room_is_short(
    clock: Clock, waits_since: int, share_used: float, left: int
) -> None:
    containers = Containers(3600, clock, WINDOW)
    old = waiting(containers, "a", waits_since)
    budget = containers.budgets["pending_bytes"]
    budget.capacity = round(2 * budget.used / share_used)

    waiting(containers, "b", NOW)

    assert len(old.pending) == left


def test_when_a_container_cannot_give_up_anything_the_next_one_of_its_size_is_asked(clock: Clock) -> None:
    containers = Containers(3600, clock, WINDOW)
    first, second = waiting(containers, "a", NOW), waiting(containers, "b", NOW)
    asked: list[Container] = []
    budget = containers.budgets["pending_bytes"]
    budget.shrink = asked.append
    budget.capacity = 1

    waiting(containers, "c", NOW)
    waiting(containers, "d", NOW)

    assert asked == [first, second]
