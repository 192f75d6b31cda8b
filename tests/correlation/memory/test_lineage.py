"""What alerts teach about the descent of processes, in whatever order they come."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.correlation.memory.lineage import Lineage
from sidecar.model import Fields

SECOND = 1_000_000_000


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


def test_the_executables_of_a_process_and_its_ancestors_are_known() -> None:
    known = lineage()
    shown = Fields(pid=10, exepath="/bin/cat", ppid=3, pexepath="/bin/dash", apid2=2, aexepath2="/usr/sbin/nginx")
    known.learn(shown, 1, lambda _: False)

    assert [process.file for process in known.path(10)] == ["/bin/cat", "/bin/dash", "/usr/sbin/nginx"]


def test_an_executable_changes_by_a_later_exec_and_is_kept_where_an_alert_shows_none() -> None:
    known = lineage()
    for time, file in ((2, "/bin/dash"), (3, None), (1, "/usr/bin/env"), (4, "/usr/sbin/php-fpm"), (5, None)):
        known.learn(Fields(pid=10, exepath=file, ppid=3), time, lambda _: False)

    process = known[10]
    assert process is not None
    assert process.file == "/usr/sbin/php-fpm"


def test_a_reused_pid_does_not_inherit_an_executable() -> None:
    known = lineage()
    known.learn(Fields(pid=10, name="nginx", start=1, ppid=3, exepath="/usr/sbin/nginx"), 2 * SECOND, lambda _: False)
    known.learn(Fields(pid=10, name="cat", start=5 * SECOND, ppid=4), 6 * SECOND, lambda _: False)

    process = known[10]
    assert process is not None
    assert process.file == ""
