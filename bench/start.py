"""What the service weighs when nothing happens, and what it costs to start."""

import http.client
import os
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import workload
from outcome import Outcome, Plan, interleaved
from over_grpc import falco
from processes import PYTHON, Child, children, cpu_of, free_port, resident, service, wait_until

IDLE, START = "idle", "start"


def outcomes(plan: Plan) -> Iterator[Outcome]:
    """Memory first, then starts."""
    http_settings = {"http": {"port": free_port()}}
    with falco(plan.folder) as fake:
        grpc_settings = {"http": {"enabled": False}, "grpc": {"enabled": True, "address": fake.address}}
        yield from _weighed(plan, "http", http_settings, 28)
        yield from _weighed(plan, "grpc", grpc_settings, 42)
    runs = interleaved(
        max(plan.runs, 5), {"start": partial(_start, plan), "--version": partial(_cpu, ["-m", "sidecar", "--version"])}
    )
    told = "parent and worker together, from exec to the first alert that is accepted"
    yield Outcome(
        START, "CPU to the first accepted alert", _median(runs["start"]), "ms", limit=400, told=told, runs=runs
    )
    yield Outcome(START, "CPU of --version", _median(runs["--version"]), "ms", limit=80, runs=runs)


def _weighed(plan: Plan, name: str, settings: dict[str, Any], limit: float) -> Iterator[Outcome]:
    admin = free_port()
    whole = {
        "supervisor": True,
        "admin": {"port": admin},
        "sinks": {"falcosidekick": {"url": "http://127.0.0.1:9"}},
    }
    with service(plan.folder, {**whole, **settings}) as parent:
        worker = _worker(parent)
        time.sleep(3)
        yield Outcome(IDLE, f"resident memory of the worker, {name}", resident(worker), "MB", limit=limit)
        yield Outcome(IDLE, f"resident memory of its supervisor, {name}", resident(parent.pid), "MB", limit=12)
        urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics").read()
        yield Outcome(IDLE, f"resident memory of the worker once it is scraped, {name}", resident(worker), "MB")


def _worker(parent: Child) -> int:
    wait_until(lambda: children(parent.pid) or parent.must_live())
    return children(parent.pid)[0]


def _start(plan: Plan) -> float:
    """Milliseconds of CPU until an alert is accepted."""
    port, body = free_port(), workload.alert(1, workload.Event(1, 1, 1, "W"))
    settings = {
        "supervisor": True,
        "http": {"port": port},
        "admin": {"port": free_port()},
        "sinks": {"falcosidekick": {"url": "http://127.0.0.1:9"}},
    }
    with service(plan.folder, settings) as parent:
        wait_until(lambda: _accepted(port, body) or parent.must_live())
        return (parent.cpu() + cpu_of(_worker(parent))) * 1000


def _accepted(port: int, body: bytes) -> bool:
    with suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("POST", "/", body)
        status = connection.getresponse().status
        connection.close()
        return status == 200
    return False


def _cpu(arguments: list[str]) -> float:
    """Milliseconds of CPU of a Python command."""
    process = subprocess.Popen([PYTHON, *arguments], stdout=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return (usage.ru_utime + usage.ru_stime) * 1000


def _median(values: list[float]) -> float:
    return statistics.median(values)
