"""What one alert costs: CPU time per alert of the pipeline, against msgspec's typed decode and json.loads of the same.

A seeded workload of recorded alerts moved over many containers; run it before and after a change to the hot path.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from sidecar import decode
from sidecar.pipeline import Pipeline
from sidecar.rules import SHIPPED, load

RECORDED = Path(__file__).parent.parent / "tests" / "data" / "stock_alerts.jsonl"
BEGIN = 1_795_489_388_000_000_000


class Whole(decode.JsonEnvelope, gc=False):
    """Everything that the service decodes of a relevant alert, in one pass: the floor."""

    output_fields: decode.Fields | None = None  # type: ignore[assignment]


def workload(count: int, relevant: float, seed: int = 1) -> list[bytes]:
    """Alerts of which a share is relevant, in 5,000 containers by Zipf, with pids and times of their own."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    base = [json.loads(line) for line in RECORDED.read_bytes().splitlines()]
    useful = [alert for alert in base if alert["rule"] in ("Run shell untrusted", "Web Server Spawned Shell")]
    containers = rng.choices(range(5000), weights=[1 / (rank + 1) ** 1.1 for rank in range(5000)], k=count)
    made = []
    for number, container in enumerate(containers):
        alert = json.loads(json.dumps(rng.choice(useful)))
        fields = alert["output_fields"]
        fields["container.id"] = f"{container:012x}"
        fields["proc.pid"], fields["proc.ppid"] = 10_000 + number % 30_000, 100 + rng.randrange(20)
        time_ns = BEGIN + number * 10_000_000
        alert["time"] = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time_ns // 10**9))}.{time_ns % 10**9:09d}Z"
        if rng.random() >= relevant:
            alert["rule"] = f"Some other rule {number % 100}"
        made.append(json.dumps(alert).encode())
    return made


def cost(work: Callable[[bytes], object], alerts: list[bytes]) -> float:
    """CPU microseconds per alert."""
    began = time.process_time()
    for alert in alerts:
        work(alert)
    return (time.process_time() - began) / len(alerts) * 1e6


def peak_memory() -> float:
    """The largest resident size of this process in MB; getrusage would count what its parent had when it started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Measure interleaved and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=20_000, help="alerts per round (default 20000)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    arguments = parser.parse_args()
    typed = msgspec.json.Decoder(Whole, strict=False)
    rules = load([SHIPPED / "correlation"])
    for share in (0.02, 1.0):
        alerts = workload(arguments.alerts, share)
        results: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            pipeline = Pipeline(rules, time.monotonic)
            for name, work in (
                ("whole pipeline", pipeline.feed_json),
                ("msgspec typed decode alone", typed.decode),
                ("json.loads alone", json.loads),
            ):
                results.setdefault(name, []).append(cost(work, alerts))
        for name, values in results.items():
            print(f"{share:4.0%} relevant  {name:28} {sorted(values)[len(values) // 2]:6.2f} us an alert")
    resident = peak_memory()
    print(f"largest resident size {resident:.0f} MB, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
