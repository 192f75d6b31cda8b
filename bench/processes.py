"""The measured process is always a child: started here, its CPU time and memory read from /proc."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
PYTHON = sys.executable


class Child:
    """A process of ours, ended by its id."""

    def __init__(self, command: Sequence[str | Path], **environment: str) -> None:
        self.process = subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def cpu(self) -> float:
        """Seconds of CPU, user and system, so far."""
        return cpu_of(self.pid)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stderr:
            self.process.stderr.close()

    def must_live(self) -> None:
        if self.process.poll() is not None:
            told = self.process.stderr.read().decode() if self.process.stderr else ""
            raise RuntimeError(f"{self.process.args} ended: {told[-2000:]}")


@contextmanager
def child(command: Sequence[str | Path], **environment: str) -> Iterator[Child]:
    """Run a command for as long as the block lasts."""
    made = Child(command, **environment)
    try:
        yield made
    finally:
        made.stop()


@contextmanager
def service(folder: Path, settings: dict[str, Any]) -> Iterator[Child]:
    """The whole sidecar as it ships, without its parent process unless the settings say so."""
    path = folder / f"settings-{time.monotonic_ns()}.yaml"
    path.write_text(json.dumps({"supervisor": False, "admin": {"enabled": False}, "log_level": "error", **settings}))
    with child([PYTHON, "-m", "sidecar", "run", "--config", path]) as made:
        yield made


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used; the clock ticks a hundred times a second."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS


def resident(pid: int) -> float:
    """Resident memory in MB, now."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def largest(pid: int) -> float:
    """The most resident memory in MB that a process had; 0 if it has ended."""
    found = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()
    return int(found[0]) / 1024 if found else 0.0


def others(since: tuple[float, float, float] = (0, 0, 0)) -> tuple[float, float, float]:
    """Time, and seconds of CPU of the whole machine and of us with all that we started, since an earlier answer."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    busy = (sum(ticks) - ticks[3] - ticks[4]) / TICKS
    now = (time.monotonic(), busy, sum(os.times()[:4]))
    return (now[0] - since[0], now[1] - since[1], now[2] - since[2])


def children(pid: int) -> list[int]:
    """The ids of the processes that a process started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, owner: Child) -> None:
    """Until somebody answers an HTTP request there."""
    for _ in range(2000):
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("POST", "/", b"{}")
            connection.getresponse().read()
            connection.close()
            return
        owner.must_live()
        time.sleep(0.01)
    raise RuntimeError(f"nobody answers on port {port}")


def wait_until(true: Any, seconds: float = 60.0) -> None:
    """Until a condition holds."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(str(true))
        time.sleep(0.02)


def answer_of(command: Sequence[str | Path]) -> Any:
    """The JSON that a command prints."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
