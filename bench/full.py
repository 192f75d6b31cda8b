"""Every budget of the memory filled to its brim, with texts as long as they are kept: what a node can cost at worst.

Two of three containers bring web shells, the third detections that wait; each alert has a process, a command line and
a file name of its own, and every fourth web shell a service of its own.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from correlation.test_flood import flood
from peers.common import peak_memory

from sidecar.correlation.memory.containers import MAX_CONTAINERS_WITH_CONTEXTS, MAX_QUIET_CONTAINERS
from sidecar.correlation.pipeline import Pipeline
from sidecar.model import MAX_COMMAND_CHARS
from sidecar.rules.loading import SHIPPED, load
from sidecar.service.run import collect_rarely

GOAL = 75
"""MB that it may grow by: with the idle worker (28 MB), its supervisor (11 MB) and what queues hold (16 MB) that stays
within the chart's 128 MiB."""


def hostile(number: int, container: int) -> bytes:
    """One alert with a command line and a file name of full length."""
    alert = json.loads(flood(number, f"{container:012x}"))
    waits = container % 3 == 2
    alert["tags"] = ["webrce_network" if waits else "webrce_web_shell"]
    fields = alert["output_fields"]
    fields |= {
        "proc.cmdline": f"sh -c {number:x}" + "é" * MAX_COMMAND_CHARS,
        "fd.name": f"/{number}" + "x" * MAX_COMMAND_CHARS,
    }
    if not waits:
        service = 4_000_000 + container * 8 + number % 8 // 7
        fields |= {"proc.ppid": service, "proc.apid[2]": 1, "proc.sid": service}
    return json.dumps(alert).encode()


def main() -> int:
    """Fill, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="alerts of each container (default 8)")
    rounds = parser.parse_args().rounds
    pipeline = Pipeline(load([SHIPPED / "correlation"]), time.monotonic)
    collect_rarely()
    number, before = 0, peak_memory()
    for turn in range(rounds):
        for container in range(MAX_QUIET_CONTAINERS + MAX_CONTAINERS_WITH_CONTEXTS - 500):
            number += 1
            pipeline.process_json(hostile(number, container))
        print(f"round {turn + 1} of {rounds}: {peak_memory() - before:.0f} MB", flush=True)
    for name, budget in pipeline.containers.budgets.items():
        print(f"{name:12} {budget.used:>7,} of {budget.capacity:>7,}, {budget.evicted:>8,} given up")
    grown = peak_memory() - before
    print(f"{len(pipeline.containers):,} containers, {grown:.0f} MB at most, goal {GOAL} MB")
    passed = grown <= GOAL
    print(f"{int(passed)} passed, {int(not passed)} failed")
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
