"""Where the time of an alert goes, by stage of the pipeline: the table in ARCHITECTURE.md.

A timer of the system interrupts the process a few hundred times a second of CPU, and whatever function is then at work
is counted for its stage. That costs the measured code nothing, where a profiler would double the price of small calls.
"""

import argparse
import signal
import time
from collections import Counter
from pathlib import Path
from types import FrameType

import workload

from sidecar.correlation.pipeline import Pipeline
from sidecar.rules.loading import SHIPPED, load
from sidecar.service.run import collect_rarely

STAGES = {
    "notification": {"correlator._escalated"},
    "budgets: who holds how much, and who gives": {"containers.changed"},
    "known by its end": {"endings.look", "endings.remember"},
    "decode": {"decode.alert", "decode.envelope", "pipeline._feed_unknown"},
    "secrets": {"intake.mask"},
    "duplicates": {"pipeline._fresh"},
    "its container": {"containers.of"},
    "lineage: who descends from whom": {"container.learn", "lineage.path"},
    "waiting detections": {"waiting.add", "placement._reconsider"},
    "placing: which context": {"placement.place"},
    "evidence, window and case": {"correlator.take", "correlator.settle"},
}
"""By the functions that do a stage's work; the first that is found in the stack counts."""


def stage(frame: FrameType | None) -> str:
    """The stage at work in a stack."""
    stack = set()
    while frame is not None:
        stack.add(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")
        frame = frame.f_back
    return next((name for name, functions in STAGES.items() if functions & stack), "the way between them")


def sampled(alerts: list[bytes]) -> tuple[float, Counter[str]]:
    """CPU microseconds an alert, and how often each stage was met at work."""
    pipeline, met = Pipeline(load([SHIPPED / "correlation"]), time.monotonic), Counter[str]()
    collect_rarely()
    signal.signal(signal.SIGPROF, lambda _, frame: met.update([stage(frame)]))
    began = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    for alert in alerts:
        pipeline.process_json(alert)
    signal.setitimer(signal.ITIMER_PROF, 0)
    return (time.process_time() - began) / len(alerts) * 1e6, met


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", type=int, default=200_000, help="alerts of a run (default 200000)")
    parser.add_argument("--relevant", type=float, default=1.0, help="share of alerts that are relevant (default 1)")
    arguments = parser.parse_args()
    cost, met = sampled(workload.generate(arguments.alerts, arguments.relevant).alerts)
    print(f"| stage | us of {cost:.1f} | share |\n|---|---|---|")
    for name, count in met.most_common():
        share = count / met.total()
        print(f"| {name} | {cost * share:.2f} | {share:.0%} |")


if __name__ == "__main__":
    main()
