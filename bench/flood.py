"""The flood of 1,000,000 detections and 100,000 sessions from one container, while another one holds evidence.

Prints the time and memory of the flood, what the victim's credential detection gives afterwards, and the cost of one
detection after 1,000, 10,000, ... processes seen.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from correlation.test_flood import flood, victim
from peers.common import peak_memory
from support.rules import RULES, WEB_RCE

from sidecar.correlation.pipeline import Pipeline


def main() -> int:
    """Flood, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detections", type=int, default=1_000_000, help="how many (default 1,000,000)")
    arguments = parser.parse_args()
    pipeline = Pipeline(RULES, time.monotonic)
    *before, credential = victim(WEB_RCE)
    for body in before:
        pipeline.process_json(body)
    for seen, cost in flooded(pipeline, arguments.detections):
        print(f"{seen:>9,} seen: {cost:6.1f} us a detection", flush=True)
    return judged(pipeline, credential)


def flooded(pipeline: Pipeline, detections: int) -> Iterator[tuple[int, float]]:
    """Feed the flood; at 1,000, 10,000, ... detections, the median cost (us) of one in the last ten thousand."""
    mark, costs = 1000, []
    for start in range(0, detections, 1000):
        # Nine of ten come from sessions that were seen before, 100,000 in all; the tenth is always a new one.
        batch = [flood(number % 100_000 if number % 10 else number) for number in range(start, start + 1000)]
        began = time.process_time()
        for body in batch:
            pipeline.process_json(body)
        costs.append((time.process_time() - began) * 1000)
        if start + 1000 == mark:
            yield mark, statistics.median(costs[-10:])
            mark *= 10


def judged(pipeline: Pipeline, credential: bytes) -> int:
    """What the victim's credential detection gives now; 0 if it is critical within a second and the memory small."""
    began = time.process_time()
    notes = pipeline.process_json(credential)[1] + pipeline.flush()
    took = (time.process_time() - began) * 1000
    resident = peak_memory()
    verdict = notes[-1].severity if notes else "nothing"
    print(f"the victim's credential detection: {verdict} after {took:.1f} ms; {resident:.0f} MB resident")
    passed = verdict == "critical" and took < 1000 and resident < 256
    print(f"{int(passed)} passed, {int(not passed)} failed")
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())
