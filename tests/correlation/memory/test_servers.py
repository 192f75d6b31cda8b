"""Who was seen to listen, and since when that would have been seen."""

import pytest

from sidecar.correlation.memory import servers as memory
from sidecar.correlation.memory.process import Process
from sidecar.correlation.memory.servers import Servers
from sidecar.model import Alert, Fields

SECOND = 1_000_000_000


def listening(pid: int = 7, start: int = 90 * SECOND, at: int = 100 * SECOND, host: str = "node-1") -> Alert:
    fields = Fields(container_id="c1", pid=pid, start=start, evt_type="listen")
    return Alert(at, host, "Program listens on a port", (memory.SERVING_TAG,), fields)


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
    assert not servers.was_watched("node-1", 150 * SECOND)
    servers.record(listening())

    assert servers.was_watched("node-1", 150 * SECOND)
    assert not servers.was_watched("node-1", 50 * SECOND)
    assert not servers.was_watched("node-1", 0)
    assert not servers.was_watched("node-2", 150 * SECOND)


def test_dropped_events_bring_doubt_back() -> None:
    servers = Servers()
    servers.record(listening())
    servers.doubt("node-1", 200 * SECOND)
    assert not servers.was_watched("node-1", 150 * SECOND)
    assert servers.was_watched("node-1", 250 * SECOND)


def test_an_alert_that_comes_late_takes_no_doubt_back() -> None:
    servers = Servers()
    servers.record(listening())
    servers.doubt("node-1", 200 * SECOND)
    servers.record(listening(pid=8, at=110 * SECOND))

    assert not servers.was_watched("node-1", 150 * SECOND)


def test_over_a_short_absence_only_what_was_starting_up_is_in_doubt() -> None:
    servers = Servers()
    servers.record(listening())
    servers.absent(2000 * SECOND, 2060 * SECOND)

    assert servers.was_watched("node-1", 1300 * SECOND)
    assert not servers.was_watched("node-1", 1500 * SECOND)
    assert not servers.was_watched("node-1", 2050 * SECOND)
    assert servers.was_watched("node-1", 2070 * SECOND)


def test_over_a_long_absence_all_is_in_doubt() -> None:
    servers = Servers()
    servers.record(listening())
    servers.absent(2000 * SECOND, 3000 * SECOND)

    assert not servers.was_watched("node-1", 1300 * SECOND)
    assert servers.was_watched("node-1", 3100 * SECOND)


def test_the_canary_is_watched_and_is_no_server() -> None:
    servers = Servers()
    alert = listening()
    alert.fields.cmdline = "python3 -S marker.py falco-correlator-canary-0123"
    servers.record(alert)

    assert servers.was_watched("node-1", 150 * SECOND)
    assert len(servers) == 0


def test_what_changed_is_taken_once_and_restored_as_it_was() -> None:
    servers, again = Servers(), Servers()
    servers.record(listening())
    servers.doubt("node-1", 200 * SECOND)
    again.restore(*servers.take_changes())

    assert servers.take_changes() == ({}, {})
    assert again.listens("node-1", "c1", process(), 100 * SECOND)
    assert again.was_watched("node-1", 250 * SECOND)
    assert not again.was_watched("node-1", 150 * SECOND)


def test_a_server_that_made_room_before_it_was_taken_is_no_change() -> None:
    servers = Servers()
    for pid in range(memory.MAX_SERVERS + 1):
        servers.record(listening(pid))

    assert len(servers.take_changes()[0]) == memory.MAX_SERVERS


def test_a_server_that_has_to_make_room_brings_doubt_to_its_host() -> None:
    servers = Servers()
    for pid in range(memory.MAX_SERVERS + 1):
        servers.record(listening(pid, at=(100 + pid) * SECOND))

    assert len(servers) == memory.MAX_SERVERS
    assert not servers.was_watched("node-1", 150 * SECOND)


def test_hosts_are_bounded() -> None:
    servers = Servers()
    for number in range(memory.MAX_HOSTS + 1):
        servers.watch(f"node-{number}", 1)

    assert not servers.was_watched("node-0", 2)
    assert servers.was_watched(f"node-{memory.MAX_HOSTS}", 2)


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
