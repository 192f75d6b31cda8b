"""Detections that wait for the web shell that explains them."""

from sidecar.correlation.memory.pending import MAX_PER_KIND, PendingDetections
from sidecar.model import Alert, Fields


def alert(time: int) -> Alert:
    return Alert(time, "node-1", "rule", (), Fields(pid=time))


def full() -> PendingDetections:
    """As many of one kind as are kept, at 1, 2, ..."""
    pending = PendingDetections()
    for time in range(1, MAX_PER_KIND + 1):
        pending.add(0, 1, alert(time), horizon=0)
    return pending


def test_a_full_kind_drops_its_oldest() -> None:
    pending = full()
    pending.add(0, 1, alert(100), horizon=0)

    assert [each.time for each in pending] == [*range(2, MAX_PER_KIND + 1), 100]


def test_a_full_kind_drops_everything_beyond_the_horizon() -> None:
    pending = full()
    pending.add(0, 1, alert(100), horizon=60)

    assert [each.time for each in pending] == [*range(60, MAX_PER_KIND + 1), 100]
    assert pending.size == sum(each.size for each in pending)


def test_the_older_half_of_each_kind_is_dropped_and_at_least_one() -> None:
    pending = PendingDetections()
    for time in (1, 2, 3, 4):
        pending.add(0, 1, alert(time), horizon=0)
    pending.add(0, 2, alert(9), horizon=0)

    pending.drop_older_half()

    assert [each.time for each in pending] == [4]
    assert (pending.oldest, pending.size) == (4, sum(each.size for each in pending))
