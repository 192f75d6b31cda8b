"""The flood of 1,000,000 detections and 100,000 sessions from one container, while another one holds evidence.

Prints the time and memory of the flood, what the victim's credential detection gives afterwards, and the cost of one
detection after 1,000, 10,000, ... processes seen.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from test_flood import flood, victim

from sidecar.pipeline import Pipeline
from sidecar.rules import SHIPPED, load


def main() -> int:
    """Flood, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detections", type=int, default=1_000_000)
    arguments = parser.parse_args()
    rules = load([SHIPPED / "correlation"])
    pipeline = Pipeline(rules, time.monotonic)
    shell, network, credential = victim(rules[0])
    pipeline.feed_json(shell)
    pipeline.feed_json(network)
    mark, costs = 1000, []
    batch: list[bytes] = []
    for number in range(arguments.detections):
        batch.append(flood(number % 100_000 if number % 10 else number))
        if len(batch) == 1000:
            began = time.process_time()
            for body in batch:
                pipeline.feed_json(body)
            costs.append((time.process_time() - began) * 1000)
            batch.clear()
            if number + 1 == mark:
                print(f"{mark:>9,} seen: {sorted(costs[-10:])[len(costs[-10:]) // 2]:6.1f} us a detection", flush=True)
                mark *= 10
    began = time.process_time()
    notes = pipeline.feed_json(credential)[1] + pipeline.settle()
    took = (time.process_time() - began) * 1000
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    verdict = notes[-1].severity if notes else "nothing"
    print(f"the victim's credential detection: {verdict} after {took:.1f} ms; {resident:.0f} MB resident")
    passed = verdict == "critical" and took < 1000 and resident < 256
    print(f"{int(passed)} passed, {int(not passed)} failed")
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
