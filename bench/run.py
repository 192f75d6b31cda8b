"""Every goal measured in one go, interleaved with what it is compared with: `make bench`, or `make bench SHORT=1`.

Prints each row as it comes, then the table of goal, measured and verdict; writes `results.json`, of which
`report.py` makes docs/performance.md. Peers live in an environment of their own (`--peers`).
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import bounded
import latency
import msgspec
import over_file
import over_grpc
import over_http
import peers_rows
import scale
import start
from outcome import Outcome, Plan, summary, table
from processes import others

RESULTS = Path(__file__).with_name("results.json")
PARTS = {
    "grpc": over_grpc,
    "http": over_http,
    "pass": latency,
    "file": over_file,
    "peers": peers_rows,
    "scale": scale,
    "start": start,
    "bounds": bounded,
}
TOOLS = {"wrk": "wrk", "sec": "sec", "valgrind": "valgrind"}
OURS = ("msgspec", "httptools", "grpcio", "protobuf", "cachetools")
PEERS = ("uvicorn", "uvloop", "aiohttp", "bytewax", "duckdb", "eql")


class Results(msgspec.Struct):
    """What `results.json` holds."""

    when: str
    took: float
    short: bool
    plan: dict[str, int]
    others: float
    """Cores that everything else on the machine took meanwhile, on average."""
    machine: dict[str, str]
    versions: dict[str, str]
    outcomes: list[Outcome]


def main() -> int:
    """Measure; the exit code is 1 if a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="smaller runs, less than twenty minutes in all")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be repeated; writes no file")
    parser.add_argument("--peers", type=Path, required=True, help="the Python of the peers' environment")
    arguments = parser.parse_args()
    install()
    began = others()
    with tempfile.TemporaryDirectory() as folder:
        made = plan(Path(folder), arguments.peers, short=arguments.short)
        outcomes = list(measured(made, arguments.only or list(PARTS)))
    print("", *table(outcomes), sep="\n")
    if not arguments.only:
        took, busy, own = others(began)
        results = Results(
            time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            took,
            arguments.short,
            {"runs": made.runs, "alerts": made.alerts, "seen": made.seen, "seconds": made.seconds},
            (busy - own) / took,
            machine(),
            versions(arguments.peers),
            outcomes,
        )
        RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
    print(summary(outcomes))
    return int(any(outcome.met is False for outcome in outcomes))


def plan(folder: Path, peers: Path, *, short: bool) -> Plan:
    """How much is measured."""
    if short:
        return Plan(folder, peers, runs=5, alerts=20_000, seen=1_000_000, seconds=5)
    return Plan(folder, peers, runs=7, alerts=200_000, seen=1_000_000, seconds=30)


def measured(made: Plan, parts: list[str]) -> Iterator[Outcome]:
    """The rows of each part, told as they come."""
    for name in parts:
        began = time.monotonic()
        for outcome in PARTS[name].outcomes(made):
            judged = f" (goal {outcome.goal}: {outcome.verdict})" if outcome.goal else ""
            told = f"; {outcome.told}" if outcome.told else ""
            print(f"{outcome.part}: {outcome.what}: {outcome.value}{judged}{told}", flush=True)
            yield outcome
        print(f"-- {name}: {time.monotonic() - began:.0f} s", flush=True)


def install() -> None:
    """The tools that come as packages of the system, where we may install them; rows without theirs say so."""
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", "-qq", *command], env=environment, stdout=subprocess.DEVNULL, check=False)


def machine() -> dict[str, str]:
    """What the numbers depend on."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
    }


def versions(peers: Path) -> dict[str, str]:
    """Of Python, our libraries and the peers."""
    code = f"from importlib.metadata import version\nfor p in {PEERS!r}: print(p, version(p))"
    told = subprocess.run([peers, "-c", code], capture_output=True, text=True, check=False).stdout
    found = {"Python": platform.python_version(), **{name: version(name) for name in OURS}}
    found |= dict(line.split() for line in told.splitlines())
    sec = (
        subprocess.run(["sec", "--version"], capture_output=True, text=True, check=False)
        if shutil.which("sec")
        else None
    )
    return found | ({"SEC": sec.stdout.split()[4]} if sec else {})


if __name__ == "__main__":
    sys.exit(main())
