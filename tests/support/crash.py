"""A service that is killed under load, and libcurl as Falco's sender: what both crash tests and the soak do."""

import os
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

from cli.test_main import COMMAND
from conftest import needs
from correlation.test_flood import flood

from sidecar.service.supervisor import GIVE_UP


class Victim:
    """A real `falco-correlator run` on a fixed port, with a state file and a file as its sink."""

    def __init__(self, folder: Path, port: int, **environment: str) -> None:
        self.folder, self.port = folder, port
        self.state, self.sink = folder / "state.db", folder / "incidents.jsonl"
        self.log = (folder / "log.jsonl").open("ab")
        self.environment = {
            **os.environ,
            "FALCO_CORRELATOR_HTTP__PORT": str(port),
            "FALCO_CORRELATOR_ADMIN__ENABLED": "false",
            "FALCO_CORRELATOR_SINKS__FILE__PATH": str(self.sink),
            "FALCO_CORRELATOR_STATE__PATH": str(self.state),
            **environment,
        }
        self.start()

    def start(self) -> None:
        before = self.starts()
        self.process = subprocess.Popen([*COMMAND, "run"], env=self.environment, stderr=self.log)
        self.await_starts(before + 1)

    def starts(self) -> int:
        """How often a worker said that it is ready."""
        return (self.folder / "log.jsonl").read_text().count('"message":"ready"')

    def await_starts(self, count: int, seconds: float = 20) -> None:
        until = time.monotonic() + seconds
        while self.starts() < count:
            assert time.monotonic() < until, (self.folder / "log.jsonl").read_text()[-2000:]
            time.sleep(0.01)

    def worker(self) -> int:
        """The pid of the worker, 0 between two."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def kill_worker(self) -> None:
        if pid := self.worker():
            os.kill(pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """What a power cut of the container does: both processes at once."""
        worker = self.worker()
        self.process.kill()
        if worker:
            os.kill(worker, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.log.close()

    def remembered(self) -> set[str]:
        """The containers of all alerts in the state file."""
        db = sqlite3.connect(f"file:{self.state}?mode=ro", uri=True)
        places = {place for (place,) in db.execute("SELECT place FROM alerts")}
        db.close()
        return places


def curl_sends(folder: Path, port: int, count: int, start: int = 0) -> subprocess.Popen[bytes]:
    """One curl that posts `count` relevant alerts, each of a container of its own, over one kept connection."""
    config = []
    for number in range(start, start + count):
        body = flood(number, f"{number:012x}").decode().replace("\\", "\\\\").replace('"', '\\"')
        config += [
            f'url = "http://127.0.0.1:{port}/"',
            f'data-binary = "{body}"',
            'header = "Content-Type: application/json"',
            'output = "/dev/null"',
            "next",
        ]
    file = folder / "curl.conf"
    file.write_text("\n".join(config[:-1]))
    return subprocess.Popen([needs("curl"), "--silent", "--config", str(file)])


def killing(victim: Victim, until: subprocess.Popen[bytes], *, after: float) -> threading.Thread:
    """Kill workers so many seconds after each is ready while curl sends; `kills` of the thread counts.

    Workers that die so young are a crash loop to the supervisor, so the last one before it gives up is left alive.
    """

    def run() -> None:
        ready = victim.starts()
        while until.poll() is None and thread.kills < GIVE_UP - 1:  # type: ignore[attr-defined]
            time.sleep(after)
            victim.kill_worker()
            thread.kills += 1  # type: ignore[attr-defined]
            ready += 1
            victim.await_starts(ready)

    thread = threading.Thread(target=run)
    thread.kills = 0  # type: ignore[attr-defined]
    thread.start()
    return thread
