"""What the Falco plugin's ancestry teaches about processes.

Covers: `correlation.memory.lineage`, `correlation.memory.process`, `alerts.ancestry`.
"""

from support.packed import GIGA, Seen, packed

from sidecar.correlation.memory.lineage import Lineage
from sidecar.correlation.memory.process import Process
from sidecar.model import Fields

INIT = Seen(1, 1 * GIGA, "/sbin/tini", known="p")
NGINX = Seen(2, 2 * GIGA, "/usr/sbin/nginx", known="p", ports="80,443")
SHELL = Seen(3, 30 * GIGA, "/usr/bin/dash", "sh")


def lineage() -> Lineage:
    return Lineage(1000, 100, lambda: 0.0)


def learn(known: Lineage, own: Seen, *above: Seen, time: int = 100 * GIGA) -> list[Process]:
    fields = Fields(pid=own.pid, start=own.start, packed=packed(own, above))
    return known.learn(fields, time, lambda pid: pid == 1).path


def test_names_files_starts_and_ports_of_the_ancestors_are_known() -> None:
    curl, shell, nginx, _ = learn(lineage(), Seen(9, 40 * GIGA, "/usr/bin/curl"), INIT, NGINX, SHELL)

    assert (nginx.name, nginx.file, nginx.start, nginx.ports) == ("nginx", "/usr/sbin/nginx", 2 * GIGA, (80, 443))
    assert (shell.name, shell.file, shell.ports) == ("sh", "/usr/bin/dash", ())
    assert (curl.name, curl.ports) == ("curl", None)


def test_ports_that_an_ancestor_once_held_stay_known() -> None:
    known = lineage()
    learn(known, Seen(9, 40 * GIGA, "/usr/bin/curl"), INIT, NGINX, SHELL)
    path = learn(known, Seen(10, 41 * GIGA, "/usr/bin/curl"), INIT, NGINX._replace(ports=""), SHELL)

    assert path[2].ports == (80, 443)


def test_sixteen_ancestors_are_known() -> None:
    above = [Seen(pid, pid * GIGA, "/usr/bin/dash", "sh") for pid in range(1, 17)]

    assert len(learn(lineage(), Seen(99, 40 * GIGA, "/usr/bin/curl"), *above)) == 17


def test_ancestors_that_were_left_out_are_filled_in_from_memory() -> None:
    known = lineage()
    above = [Seen(pid, pid * GIGA, "/usr/bin/dash", "sh") for pid in range(1, 31)]
    for depth in range(1, 31):
        path = learn(known, above[depth - 1], *above[: depth - 1])

    assert [process.pid for process in path] == [*range(30, 0, -1)]


def test_a_parent_that_was_guessed_is_overridden() -> None:
    known = lineage()
    known.learn(Fields(pid=9, start=40 * GIGA, name="curl", ppid=1, pname="tini"), 41 * GIGA, lambda _: False)
    learn(known, Seen(9, 40 * GIGA, "/usr/bin/curl"), INIT, NGINX, SHELL)
    known.learn(Fields(pid=9, start=40 * GIGA, name="curl", ppid=1, pname="tini"), 40 * GIGA, lambda _: False)

    assert [process.pid for process in known.path(9)] == [9, 3, 2, 1]


def test_a_lost_fork_does_not_override_what_is_known() -> None:
    known = lineage()
    learn(known, Seen(9, 40 * GIGA, "/usr/bin/curl"), INIT, NGINX, SHELL)
    learn(known, Seen(9, 40 * GIGA, "/usr/bin/curl", known="l"), INIT)

    assert [process.pid for process in known.path(9)] == [9, 3, 2, 1]


def test_an_ancestor_has_the_name_that_it_had_when_it_forked_unless_a_later_one_is_known() -> None:
    known = lineage()
    entry = Seen(7, 7 * GIGA, "/bin/dash", "sh")
    learn(known, Seen(7, 7 * GIGA, "/usr/sbin/php-fpm"), INIT, time=50 * GIGA)
    path = learn(known, Seen(8, 8 * GIGA, "/bin/sleep"), INIT, entry, time=60 * GIGA)

    assert (path[1].name, path[1].file, path[0].parent_name) == ("php-fpm", "/usr/sbin/php-fpm", "sh")


def test_an_empty_name_or_file_does_not_make_a_known_one_unknown() -> None:
    known = lineage()
    learn(known, Seen(9, 40 * GIGA, "/usr/bin/curl"), INIT, NGINX, SHELL)
    path = learn(known, Seen(9, 40 * GIGA, ""), INIT, NGINX._replace(file=""), SHELL._replace(file="", name=""))

    assert [(process.name, process.file) for process in path[:2]] == [
        ("curl", "/usr/bin/curl"),
        ("sh", "/usr/bin/dash"),
    ]


def test_former_holders_of_a_pid_are_told_apart_from_the_present_one_in_any_order() -> None:
    known = lineage()
    first, second, third = (Seen(3, start * GIGA, "/usr/bin/dash", "sh") for start in (10, 20, 30))
    paths = [
        learn(known, Seen(pid, shell.start + GIGA, "/usr/bin/curl"), INIT, shell)
        for pid, shell in ((11, second), (12, third), (13, first), (14, second))
    ]

    assert [path[1].start // GIGA for path in paths] == [20, 30, 10, 20]
    assert [known.path(pid)[1].start // GIGA for pid in (11, 12, 13, 14)] == [20, 30, 10, 20]
    assert paths[0][1] is paths[3][1]
    assert len({path[1].key for path in paths}) == 3


def test_start_times_may_move_when_falco_restarts() -> None:
    known = lineage()
    before = learn(known, Seen(9, 40 * GIGA, "/usr/bin/curl"), INIT, NGINX, SHELL)
    moved = [each._replace(start=each.start + 8_000_000, known="p") for each in (INIT, NGINX, SHELL)]
    after = learn(known, Seen(9, 40 * GIGA - 5_000_000, "/usr/bin/curl", known="p"), *moved)

    assert after == before


def test_memory_of_reused_pids_is_bounded() -> None:
    known = lineage()
    for start in range(2, 102, 2):
        learn(known, Seen(9, start * GIGA, "/usr/bin/curl"), INIT)
    process = known[9]
    assert process is not None
    assert [former.start // GIGA for former in process.former] == [98, 96, 94, 92]
