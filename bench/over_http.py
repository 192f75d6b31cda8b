"""The whole sidecar over HTTP under wrk, against servers that read each alert and throw it away."""

import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import workload
from outcome import Outcome, Plan, interleaved, medians, number, ratio
from processes import Child, child, free_port, service, wait_for_port

PART = "HTTP"
HERE = Path(__file__).parent


def started(name: str, plan: Plan, port: int) -> AbstractContextManager[Child]:
    """A server by name."""
    if name != "sidecar":
        return child([plan.peers, HERE / "peers" / f"noop_{name}.py", str(port)])
    settings = {
        "http": {"port": port},
        "pass_through": {"mode": "none"},
        "sinks": {"file": {"path": str(plan.folder / "incidents.jsonl")}},
    }
    return service(plan.folder, settings)


def wrk(port: int, connections: int, file: Path, first: int, seconds: float) -> int:
    """Load a server; the number of requests that were answered with success."""
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", HERE / "wrk.lua", f"http://127.0.0.1:{port}/"],
        env={**os.environ, "FILE": str(file), "FIRST": str(first)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"(\d+) requests in", done.stdout)
    if found is None or "Non-2xx" in done.stdout:
        raise RuntimeError(done.stdout)
    return int(found[1])


def cost(name: str, plan: Plan, file: Path, connections: int, rates: dict[str, list[float]]) -> float:
    """CPU microseconds an alert; the rate is noted beside it."""
    port = free_port()
    with started(name, plan, port) as server:
        wait_for_port(port, server)
        wrk(port, connections, file, 0, 1)
        before, began = server.cpu(), time.monotonic()
        answered = wrk(port, connections, file, 100_000_000, 2)
        rates.setdefault(name, []).append(answered / (time.monotonic() - began))
        return (server.cpu() - before) / answered * 1e6


def outcomes(plan: Plan) -> Iterator[Outcome]:
    """Eight connections, then one as Falco has."""
    if shutil.which("wrk") is None:
        yield Outcome(PART, "whole sidecar", None, limit=0.6, told="wrk is not installed (apt-get install wrk)")
        return
    for share in (0.02, 1.0):
        file = plan.folder / f"http-{share}.jsonl"
        file.write_bytes(b"\n".join(workload.generate(plan.alerts, share).alerts))
        yield from _compared(plan, file, 8, f"{share:.0%} relevant, 8 connections", judged=True)
        if share < 1:
            yield from _compared(plan, file, 1, f"{share:.0%} relevant, 1 connection", judged=False)


def _compared(plan: Plan, file: Path, connections: int, how: str, *, judged: bool) -> Iterator[Outcome]:
    rates: dict[str, list[float]] = {}
    names = ("sidecar", "uvicorn", "aiohttp")
    runs = interleaved(plan.runs, {name: partial(cost, name, plan, file, connections, rates) for name in names})
    for other, limit in (("uvicorn", 0.6), ("aiohttp", 0.3)):
        what = f"whole sidecar, {how}, x of no-op {other}"
        goal = limit if judged else None
        yield Outcome(PART, what, ratio(runs, "sidecar", other), limit=goal, told=medians(runs), runs=runs)
    answered = ", ".join(f"{name} {number(statistics.median(values))}/s" for name, values in rates.items())
    one_core = 1e6 / statistics.median(runs["sidecar"])
    what, goal = f"alerts a CPU second, {how}", 20_000.0 if judged else None
    yield Outcome(PART, what, one_core, "/s", limit=goal, better=">=", told=f"under wrk here: {answered}", runs=rates)
