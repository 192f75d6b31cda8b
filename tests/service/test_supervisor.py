"""The parent process: a worker that dies costs no alert.

Covers: `service.sockets`, `service.run`.
"""

import contextlib
import json
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from support.crash import Victim, curl_sends, killing
from support.waiting import wait_until

from sidecar.errors import EXIT_PROBLEM, EXIT_WRONG
from sidecar.service import supervisor
from sidecar.service.supervisor import Supervisor

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def logged(victim: Victim) -> list[dict[str, object]]:
    return [json.loads(line) for line in (victim.folder / "log.jsonl").read_text().splitlines()]


def test_a_worker_that_is_killed_again_and_again_under_curl_loses_no_alert(tmp_path: Path) -> None:
    victim = Victim(tmp_path, free_port())
    curl = curl_sends(tmp_path, victim.port, 8000)
    killer = killing(victim, curl, after=0.4)
    curl.wait(180)
    killer.join()
    victim.stop()

    assert killer.kills >= 2  # type: ignore[attr-defined]
    assert {f"node-1/{number:012x}" for number in range(8000)} == victim.remembered()


def test_a_connection_made_between_two_workers_waits_and_is_answered(tmp_path: Path) -> None:
    victim = Victim(tmp_path, free_port())
    victim.kill_worker()
    with socket.create_connection(("127.0.0.1", victim.port), timeout=60) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
        answer = connection.recv(100)
    victim.stop()

    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_worker_that_keeps_dying_is_started_ever_later_and_told_of() -> None:
    code = "import sys; sys.exit(3)"
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "sidecar.service.supervisor", sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert supervisor.stderr
    lines = [json.loads(supervisor.stderr.readline()) for _ in range(3)]
    supervisor.terminate()

    assert [line["crashes_in_a_row"] for line in lines] == [1, 2, 3]
    assert lines[0]["pause"] < lines[1]["pause"] < lines[2]["pause"]
    assert supervisor.wait(10) in (0, 1)
    supervisor.stderr.close()


def test_a_worker_that_keeps_dying_is_given_up_with_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "MAX_PAUSE_SECONDS", 0.0)
    handlers = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        code = Supervisor([sys.executable, "-c", "import sys; sys.exit(3)"]).run()
    finally:
        for name, handler in handlers.items():
            signal.signal(name, handler)

    assert code == EXIT_PROBLEM


def test_a_worker_that_finds_a_setting_wrong_is_not_started_again() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sidecar.service.supervisor", sys.executable, "-c", "import sys; sys.exit(2)"],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )

    assert (done.returncode, done.stderr) == (2, "")


def test_the_worker_ends_when_the_parent_is_killed(tmp_path: Path) -> None:
    victim = Victim(tmp_path, free_port())
    worker = victim.worker()
    victim.process.kill()
    victim.process.wait()
    victim.log.close()

    wait_until(lambda: not Path(f"/proc/{worker}/exe").exists())


def test_the_parent_needs_less_than_12_mb(tmp_path: Path) -> None:
    victim = Victim(tmp_path, free_port())
    status = Path(f"/proc/{victim.process.pid}/status").read_text()
    victim.stop()
    resident = int(status.partition("VmRSS:")[2].split()[0])

    assert resident < 12 * 1024
    assert logged(victim)[-1]["message"] == "stopped"


def test_a_state_file_that_a_newer_version_took_over_ends_the_supervisor_too_and_frees_the_port(tmp_path: Path) -> None:
    victim = Victim(tmp_path, free_port())
    with contextlib.closing(sqlite3.connect(victim.state)) as db:
        db.execute("PRAGMA user_version = 99")
    victim.kill_worker()
    code = victim.process.wait(20)
    victim.log.close()

    assert code == EXIT_WRONG
    assert "newer version (schema 99" in (tmp_path / "log.jsonl").read_text()
    socket.create_server(("127.0.0.1", victim.port)).close()


def test_at_the_limit_of_descriptors_the_log_stays_small_and_alerts_are_taken_again_afterwards(tmp_path: Path) -> None:
    victim = Victim(tmp_path, free_port(), with_state=False)
    resource.prlimit(victim.worker(), resource.RLIMIT_NOFILE, (40, 40))
    with contextlib.ExitStack() as idle:
        for _ in range(200):
            idle.enter_context(socket.create_connection(("127.0.0.1", victim.port)))
        wait_until(lambda: "out of system resource" in (tmp_path / "log.jsonl").read_text())
    with urllib.request.urlopen(f"http://127.0.0.1:{victim.port}/", b"{}", timeout=60) as answer:
        status = answer.status
    victim.stop()

    assert status == 200
    assert (tmp_path / "log.jsonl").stat().st_size < 50_000
