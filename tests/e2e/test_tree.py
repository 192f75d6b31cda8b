"""Scenarios as chains: who starts whom, in which order, and how."""

from e2e import tree


def scenario(*chains: list[str], container: bool = True) -> tree.Scenario:
    return tree.Scenario("x", container, None, None, frozenset(), list(chains))


def argvs(*chains: list[str], container: bool = True) -> list[list[str]]:
    return [process.argv for process in tree.grow(scenario(*chains, container=container))[0]]


def test_chains_share_the_processes_that_they_begin_with() -> None:
    assert argvs(["php-fpm", "sh -c id", "id"], ["php-fpm", "sh -c id", "ls"])[1:] == [
        ["php-fpm"],
        ["sh", "-c", "id"],
        ["id"],
        ["ls"],
    ]


def test_what_comes_first_in_the_chains_happens_first() -> None:
    processes, end = tree.grow(scenario(["php-fpm", "sh", "reads /a"], ["php-fpm", "ls"]))
    assert processes[1].deeds == [(2, "child", 2), (4, "child", 3)]
    assert processes[2].deeds == [(3, "read", "/a")]
    assert end == 8


def test_the_first_process_of_a_container_gets_a_namespace_and_those_that_enter_do_not() -> None:
    processes, _ = tree.grow(scenario(["php-fpm"], ["[enters] bash"]))
    assert processes[1].marks == {"namespace", "cgroup"}
    assert processes[2].marks == {"enters", "cgroup"}


def test_a_container_that_is_only_entered_has_a_pause_process_that_started_before() -> None:
    processes, _ = tree.grow(scenario(["[enters] bash"]))
    assert [process.argv[0] for _, _, number in processes[0].deeds for process in [processes[number]]] == [
        "pause",
        "bash",
    ]


def test_on_a_host_chains_hang_below_systemd_in_sessions_of_their_own() -> None:
    processes, _ = tree.grow(scenario(["systemd", "nginx"], ["cron"], container=False))
    assert processes[0].argv[0] == "systemd"
    assert [process.marks for process in processes[1:]] == [{"setsid"}, {"setsid"}]


def test_marks_say_how_a_process_starts_and_which_file_it_runs() -> None:
    applet = tree.parse("[terminal] [exe=/bin/busybox] sh -i")
    assert (applet.argv, applet.file, applet.behind) == (["sh", "-i"], "/usr/bin/sh", "/bin/busybox")
    assert applet.marks == {"terminal"}
    disguised = tree.parse("[as=/usr/bin/curl] 'kworker/0:1' http://x")
    assert (disguised.argv, disguised.file) == (["kworker/0:1", "http://x"], "/usr/bin/curl")


def test_a_process_that_exits_or_becomes_another_does_not_wait() -> None:
    processes, _ = tree.grow(scenario(["tini", "sh", "exits"], ["tini", "bash", "[becomes] curl x"]))
    replaced = {process.argv[0]: process.replaced for process in processes}
    assert replaced == {"containerd-shim": False, "tini": False, "sh": True, "bash": True, "curl": False}


def test_a_deed_may_carry_marks_of_the_file_that_it_touches() -> None:
    processes, _ = tree.grow(scenario(["sh", "reads [upper,dev=1f,ino=77] /tmp/x"], ["node app.js", "listens 8080"]))
    (_, kind, read), (_, _, listened) = processes[1].deeds[0], processes[2].deeds[0]
    assert (kind, read, read.marks, read.options) == ("read", "/tmp/x", {"upper"}, {"dev": "1f", "ino": "77"})
    assert listened == "0.0.0.0:8080"
