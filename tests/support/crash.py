"""A service that is killed under load, and libcurl as Falco's sender: what both crash tests and the soak do."""

import http.client
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cli.test_main import COMMAND
from conftest import needs, spec
from correlation.test_flood import flood
from support.falcosidekick import Falcosidekick
from support.waiting import wait_until

from sidecar.cli.testing.stories import alerts
from sidecar.rules.rule import CorrelationRule
from sidecar.service.supervisor import MAX_CRASHES, STEADY_SECONDS


class Victim:
    """A real `falco-correlator run` on a fixed port, with a state file and a file as its sink.

    With `sidekick` raw alerts are passed through to that address.
    """

    def __init__(
        self, folder: Path, port: int, *, sidekick: str = "", with_state: bool = True, **environment: str
    ) -> None:
        self.folder, self.port = folder, port
        self.state, self.sink = folder / "state.db", folder / "incidents.jsonl"
        self.log = (folder / "log.jsonl").open("ab")
        self.environment = {
            **os.environ,
            "FALCO_CORRELATOR_HTTP__PORT": str(port),
            "FALCO_CORRELATOR_ADMIN__ENABLED": "false",
            "FALCO_CORRELATOR_SINKS__FILE__PATH": str(self.sink),
            "FALCO_CORRELATOR_STATE__PATH": str(self.state) if with_state else "",
            "FALCO_CORRELATOR_PASS_THROUGH__URL": sidekick,
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

    def await_starts(self, count: int) -> None:
        wait_until(lambda: self.starts() >= count, why=(self.folder / "log.jsonl").read_text()[-2000:])

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
        self.process.wait(60)
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
        while until.poll() is None and thread.kills < MAX_CRASHES - 1:  # type: ignore[attr-defined]
            time.sleep(after)
            victim.kill_worker()
            thread.kills += 1  # type: ignore[attr-defined]
            ready += 1
            victim.await_starts(ready)

    thread = threading.Thread(target=run)
    thread.kills = 0  # type: ignore[attr-defined]
    thread.start()
    return thread


class OverKills(NamedTuple):
    """What became of raw alerts whose worker was killed while they waited."""

    lost: int
    repeated: int
    in_order: bool


def raw_alert(number: int) -> bytes:
    """An alert that no rule cares about, as long as most are."""
    head = b'{"rule":"raw","priority":"Notice","time":"2026-01-01T00:00:00Z","output_fields":{"number":"%07d"}' % number
    return head + b',"output":"%b"}' % (b"x" * 600)


def send_raw(victim: Victim, numbers: range) -> None:
    """Post raw alerts; see `send`."""
    send(victim, map(raw_alert, numbers))


def send(victim: Victim, bodies: Iterable[bytes]) -> None:
    """Post alerts as Falco does: one connection, each again if the connection ends before its answer."""
    falco = http.client.HTTPConnection("127.0.0.1", victim.port, timeout=30)
    for body in bodies:
        while True:
            try:
                falco.request("POST", "/", body)
                falco.getresponse().read()
                break
            except (OSError, http.client.HTTPException):
                falco.close()
    falco.close()


def raw_alerts_over_kills(victim: Victim, sidekick: Falcosidekick, *, count: int, kills: int) -> OverKills:
    """Kill the worker while its receiver is down, while it is slow, and while all that waits is passed on."""
    for kill in range(kills):
        sidekick.behave = (lambda _: 503) if kill % 2 == 0 else slow
        numbers = range(kill * count // kills, (kill + 1) * count // kills)
        sender = threading.Thread(target=send_raw, args=(victim, numbers))
        sender.start()
        if kill % 2:
            sender.join()  # the kill comes while what waits is passed on, otherwise while more comes in
        if kills >= MAX_CRASHES:
            time.sleep(STEADY_SECONDS + 0.1)  # otherwise so many kills are a crash loop to the supervisor
        victim.kill_worker()
        victim.await_starts(kill + 2)
        sender.join()
    sidekick.behave = lambda _: None
    wait_until(lambda: len({*sidekick.raw}) >= count, 60 + count / 100)
    victim.stop()
    expected, first_times = [raw_alert(number) for number in range(count)], list(dict.fromkeys(sidekick.raw))
    lost, repeated = len({*expected} - {*first_times}), len(sidekick.raw) - len(first_times)
    return OverKills(lost, repeated, first_times == expected)


def critical_places(sidekick: Falcosidekick) -> set[str]:
    """The containers whose critical incidents have arrived."""
    return {
        event["output_fields"].get("container.name", "")
        for event in list(sidekick.events)
        if event["output_fields"].get("incident.severity") == "critical"
    }


def attack(rule: CorrelationRule, container: str) -> list[bytes]:
    """A web shell, its connection and its theft."""
    steps = [
        spec("tini > nginx > sh", "web_shell", container=container),
        spec("tini > nginx > sh > curl", "network", at="1s", container=container),
        spec("tini > nginx > sh > cat", "credential", at="2s", container=container),
    ]
    return list(alerts(rule, steps))


def slow(_: int) -> None:
    time.sleep(0.001)
