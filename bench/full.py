"""Every budget of the memory filled to its brim, with texts as long as they are kept: what a node can cost at worst.

Many containers bring web shells, contexts, processes, detections that wait and long command lines at once.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from peers.common import peak_memory
from test_flood import flood

from sidecar.intake import LONGEST
from sidecar.pipeline import Pipeline
from sidecar.rules import SHIPPED, load

GOAL = 70
"""MB that it may grow by: with the idle worker (28 MB), its supervisor (11 MB) and what queues hold (16 MB) that stays
within the chart's 128 MiB."""


def hostile(number: int, container: str, *, group: str) -> bytes:
    """One alert with a command line and a file name of full length, from a process chain of its own."""
    alert = json.loads(flood(number, container))
    alert["tags"] = [f"webrce_{group}"]
    alert["output_fields"] |= {
        "proc.cmdline": f"sh -c {number:x}" + "é" * LONGEST,
        "fd.name": f"/{number}" + "x" * LONGEST,
    }
    return json.dumps(alert).encode()


def main() -> int:
    """Fill, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="alerts of each kind and container (default 6)")
    rounds = parser.parse_args().rounds
    pipeline = Pipeline(load([SHIPPED / "correlation"]), time.monotonic)
    number, before = 0, peak_memory()
    for turn in range(rounds):
        for container in range(16_000):
            number += 1
            kind = "network" if container % 4 == 0 else "web_shell"
            pipeline.feed_json(hostile(number, f"{container:012x}", group=kind))
        print(f"round {turn + 1} of {rounds}: {peak_memory() - before:.0f} MB", flush=True)
    for name, budget in pipeline.containers.budgets.items():
        print(f"{name:12} {budget.used:>7,} of {budget.room:>7,}, {budget.shrunk:>8,} given up")
    grown = peak_memory() - before
    print(f"{len(pipeline.containers):,} containers, {grown:.0f} MB at most, goal {GOAL} MB")
    passed = grown <= GOAL
    print(f"{int(passed)} passed, {int(not passed)} failed")
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
