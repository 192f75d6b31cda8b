"""What alerts teach about the descent of processes, in whatever order they come."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.correlation.memory.lineage import Lineage
from sidecar.model import Fields


def child(pid: int) -> Fields:
    """A process below sh (3), which is below nginx (2)."""
    return Fields(pid=pid, name="cat", ppid=3, aname1="sh", apid2=2, aname2="nginx")


def lineage() -> Lineage:
    return Lineage(1000, 100, lambda: 0.0)


def test_siblings_with_the_same_ancestors_are_familiar() -> None:
    known = lineage()

    assert [known.learn(child(pid), pid, lambda _: False).is_familiar for pid in (10, 11, 12)] == [False, True, True]


@given(st.permutations(range(1, 8)))
def test_a_parent_is_known_since_the_earliest_alert_whatever_the_order(times: list[int]) -> None:
    known = lineage()
    for time in times:
        known.learn(child(100 + time), time, lambda _: False)

    shell = known[3]
    assert shell is not None
    assert (shell.parent, shell.parent_since, shell.last_seen) == (2, 1, 7)
