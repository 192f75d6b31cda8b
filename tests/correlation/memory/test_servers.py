"""Who was seen to listen, and since when that would have been seen."""

import pytest

from sidecar.correlation.memory import servers as memory
from sidecar.correlation.memory.process import Process
from sidecar.correlation.memory.servers import Servers
from sidecar.model import Alert, Fields

SECOND = 1_000_000_000


def listening(
    pid: int = 7, start: int = 90 * SECOND, at: int = 100 * SECOND, container: str = "c1", program: str = "/bin/nc"
) -> Alert:
    fields = Fields(container_id=container, pid=pid, start=start, evt_type="listen", exepath=program)
    return Alert(at, "node-1", "Program listens on a port", (memory.SERVING_TAG,), fields)


def process(pid: int = 7, start: int = 90 * SECOND) -> Process:
    return Process(pid, "node", start, 1, 0, 0)


def test_a_process_listens_from_then_on() -> None:
    servers = Servers()
    servers.record(listening())

    assert servers.listens("node-1", "c1", process(), 100 * SECOND)
    assert not servers.listens("node-1", "c1", process(), 99 * SECOND)


def test_another_process_with_the_same_pid_does_not_listen() -> None:
    servers = Servers()
    servers.record(listening())

    assert not servers.listens("node-1", "c1", process(start=200 * SECOND), 300 * SECOND)
    assert not servers.listens("node-1", "c2", process(), 300 * SECOND)


def test_a_process_that_started_before_the_first_sign_of_watching_is_in_doubt() -> None:
    servers = Servers()
    assert not servers.was_watched("node-1", "c1", 150 * SECOND)
    servers.record(listening())

    assert servers.was_watched("node-1", "c1", 150 * SECOND)
    assert not servers.was_watched("node-1", "c1", 50 * SECOND)
    assert not servers.was_watched("node-1", "c1", 0)
    assert not servers.was_watched("node-2", "c1", 150 * SECOND)


def test_dropped_events_bring_doubt_back() -> None:
    servers = Servers()
    servers.record(listening())
    servers.doubt("node-1", 200 * SECOND)
    assert not servers.was_watched("node-1", "c1", 150 * SECOND)
    assert servers.was_watched("node-1", "c1", 250 * SECOND)


def test_an_alert_that_comes_late_takes_no_doubt_back() -> None:
    servers = Servers()
    servers.record(listening())
    servers.doubt("node-1", 200 * SECOND)
    servers.record(listening(pid=8, at=110 * SECOND))

    assert not servers.was_watched("node-1", "c1", 150 * SECOND)


def test_over_a_short_absence_only_what_was_starting_up_is_in_doubt() -> None:
    servers = Servers()
    servers.record(listening())
    servers.absent(2000 * SECOND, 2060 * SECOND)

    assert servers.was_watched("node-1", "c1", 1300 * SECOND)
    assert not servers.was_watched("node-1", "c1", 1500 * SECOND)
    assert not servers.was_watched("node-1", "c1", 2050 * SECOND)
    assert servers.was_watched("node-1", "c1", 2070 * SECOND)


def test_over_a_long_absence_all_is_in_doubt() -> None:
    servers = Servers()
    servers.record(listening())
    servers.absent(2000 * SECOND, 3000 * SECOND)

    assert not servers.was_watched("node-1", "c1", 1300 * SECOND)
    assert servers.was_watched("node-1", "c1", 3100 * SECOND)


def test_the_canary_is_watched_and_is_no_server() -> None:
    servers = Servers()
    alert = listening()
    alert.fields.cmdline = "python3 -S marker.py falco-correlator-canary-0123"
    servers.record(alert)

    assert servers.was_watched("node-1", "c1", 150 * SECOND)
    assert len(servers) == 0


def test_what_changed_is_taken_once_and_restored_as_it_was() -> None:
    servers, again = Servers(), Servers()
    servers.record(listening())
    servers.doubt("node-1", 200 * SECOND)
    again.restore(*servers.take_changes()[:2])

    assert servers.take_changes() == ({}, {}, [])
    assert again.listens("node-1", "c1", process(), 100 * SECOND)
    assert again.was_watched("node-1", "c1", 250 * SECOND)
    assert not again.was_watched("node-1", "c1", 150 * SECOND)


def test_a_server_that_made_room_before_it_was_taken_is_evicted_in_the_file_too() -> None:
    servers = Servers()
    for pid in range(1, memory.MAX_SERVERS + 2):
        servers.record(listening(pid))
    listens, _, evicted = servers.take_changes()

    assert {*listens} == {("node-1", "c1", pid) for pid in (0, *range(1025, 8194))}
    assert evicted == [("node-1", "c1", pid) for pid in range(1, 1025)]


def test_servers_that_have_to_make_room_bring_doubt_to_their_container_only() -> None:
    servers = Servers()
    for pid in range(1, memory.MAX_SERVERS + 2):
        servers.record(listening(pid, at=(100 + pid) * SECOND))

    assert len(servers) == memory.KEPT_SERVERS + 1
    assert not servers.was_watched("node-1", "c1", 150 * SECOND)
    assert servers.was_watched("node-1", "c2", 150 * SECOND)


@pytest.mark.slow
def test_a_flood_of_short_listeners_pushes_out_no_server_of_another_container() -> None:
    servers = Servers()
    servers.record(listening())
    for pid in range(1, 3 * memory.MAX_SERVERS):
        servers.record(listening(pid, at=(200 + pid) * SECOND, container="loud"))

    assert servers.listens("node-1", "c1", process(), 100 * SECOND)
    assert servers.was_watched("node-1", "c1", 150 * SECOND)
    assert len(servers) <= memory.MAX_SERVERS


@pytest.mark.slow
def test_on_a_host_a_flood_of_one_program_even_with_copies_of_it_pushes_out_no_server_of_another() -> None:
    servers = Servers()
    servers.record(listening(container="", program="/usr/bin/node"))
    for pid in range(100, 3 * memory.MAX_SERVERS):
        servers.record(listening(pid, at=(200 + pid) * SECOND, container="", program=f"/tmp/{pid % 500}"))

    assert servers.listens("node-1", "", process(), 100 * SECOND)


def test_with_a_container_for_each_server_the_oldest_make_room() -> None:
    servers = Servers()
    for pid in range(1, memory.MAX_SERVERS + 2):
        servers.record(listening(pid, container=f"c{pid}"))

    assert len(servers) == memory.KEPT_SERVERS + 1
    assert not servers.listens("node-1", "c1", process(1), 100 * SECOND)
    assert servers.listens("node-1", f"c{memory.MAX_SERVERS}", process(memory.MAX_SERVERS), 100 * SECOND)


@pytest.mark.slow
def test_containers_in_doubt_are_bounded_and_the_oldest_one_becomes_that_of_its_host() -> None:
    servers = Servers()
    for pid in range(1, 2 * memory.MAX_SERVERS):
        servers.record(listening(pid, at=(100 + pid) * SECOND, container=f"c{pid}"))

    assert not servers.was_watched("node-1", "never seen", 150 * SECOND)
    assert len(servers._doubted_containers) <= memory.MAX_HOSTS


def test_the_doubt_about_a_container_survives_a_restart() -> None:
    servers, again = Servers(), Servers()
    for pid in range(1, memory.MAX_SERVERS + 2):
        servers.record(listening(pid, at=(100 + pid) * SECOND))
    again.restore(*servers.take_changes()[:2])

    assert not again.was_watched("node-1", "c1", 150 * SECOND)
    assert len(again) == len(servers)


def test_hosts_are_bounded() -> None:
    servers = Servers()
    for number in range(memory.MAX_HOSTS + 1):
        servers.watch(f"node-{number}", 1)

    assert not servers.was_watched("node-0", "c1", 2)
    assert servers.was_watched(f"node-{memory.MAX_HOSTS}", "c1", 2)


@pytest.mark.parametrize(
    ("option", "port", "serves"),
    [
        ("-agentlib:jdwp=transport=dt_socket,server=y,address=*:8530", 8530, False),
        ("-agentlib:jdwp=transport=dt_socket,server=y,address=8530", 8530, False),
        ("-Dcom.sun.management.jmxremote.port=8532", 8532, False),
        ("-agentlib:jdwp=transport=dt_socket,server=y,address=*:8530", 8080, True),
    ],
)
def test_the_port_of_a_debugger_or_monitor_is_no_service(option: str, port: int, *, serves: bool) -> None:
    servers = Servers()
    alert = listening()
    alert.fields.cmdline = f"java {option} -cp app Main"
    alert.fields.remote_port = port
    servers.record(alert)

    assert servers.listens("node-1", "c1", process(), alert.time) is serves
