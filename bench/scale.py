"""Whether an alert costs the same when a million contexts were seen, and what many contexts weigh.

Each measurement is a process of its own: `scale.py seen COUNT` and `scale.py live COUNT` print JSON.
"""

import gc
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import workload
from outcome import Outcome, Plan
from peers.common import peak_memory
from processes import PYTHON, answer_of

from sidecar.correlation.pipeline import Pipeline
from sidecar.rules.loading import SHIPPED, load
from sidecar.service.run import collect_rarely

PART = "scale"
BATCH = 1000
CONTAINERS = 1000


def web_shell(number: int) -> bytes:
    """A web shell below a service root that was never seen before, in one of 1,000 containers."""
    event = workload.Event(number / 1000, number % CONTAINERS, number // CONTAINERS * CONTAINERS, "W")
    return workload.alert(number, event)


def seen(count: int) -> dict[str, float]:
    """Cost of an alert after 1,000 and at the end, the worst one, and the longest pause for garbage, in us and ms."""
    pipeline, pauses, worst, batches = _pipeline(), _pauses(), 0.0, list[float]()
    for start in range(0, count, BATCH):
        alerts = [web_shell(number) for number in range(start, start + BATCH)]
        took = []
        for alert in alerts:
            began = time.thread_time_ns()
            pipeline.process_json(alert)
            took.append(time.thread_time_ns() - began)
        worst = max(worst, *took)
        batches.append(sum(took) / BATCH / 1000)
    few, many = statistics.median(batches[1:11]), statistics.median(batches[-10:])
    return {"few": few, "many": many, "worst": worst / 1e6, "pause": max(pauses, default=0.0)}


def _pauses() -> list[float]:
    """Milliseconds of CPU of each collection from now on."""
    pauses, began = list[float](), [0]

    def note(phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            began[0] = time.thread_time_ns()
        else:
            pauses.append((time.thread_time_ns() - began[0]) / 1e6)

    gc.callbacks.append(note)
    return pauses


def live(count: int) -> dict[str, float]:
    """What a process weighs in which `count` contexts were opened within a window, and how many it keeps apart."""
    pipeline = _pipeline()
    for number in range(count):
        pipeline.process_json(web_shell(number))
    held = sum(len(container.contexts) for container in pipeline.containers)
    return {"memory": peak_memory(), "held": held}


def _pipeline() -> Pipeline:
    pipeline = Pipeline(load([SHIPPED / "correlation"]), time.monotonic)
    collect_rarely()
    return pipeline


def outcomes(plan: Plan) -> Iterator[Outcome]:
    """Flatness, the worst alert, pauses; then memory."""
    me = [PYTHON, Path(__file__)]
    runs = [answer_of([*me, "seen", str(plan.seen)]) for _ in range(plan.runs)]
    got = {name: statistics.median([run[name] for run in runs]) for name in runs[0]}
    flat = [run["many"] / run["few"] for run in runs]
    told = f"{got['few']:.1f} us an alert after 1,000 contexts, {got['many']:.1f} us after {plan.seen:,}"
    what, ratios = f"an alert after {plan.seen:,} contexts, x of after 1,000", {"x": flat}
    yield Outcome(PART, what, statistics.median(flat), limit=1.4, told=told, runs=ratios)
    for name, what in (("worst", f"worst alert of {plan.seen:,}, CPU"), ("pause", "longest pause for garbage, CPU")):
        values = [run[name] for run in runs]
        told = f"the worst of {plan.runs} runs: {max(values):.1f} ms"
        yield Outcome(PART, what, got[name], "ms", limit=5, told=told, runs={"ms": values})
    shipped = answer_of([*me, "live", "100000"])
    told = f"{shipped['held']:,} are kept apart by the budget of all, the others are folded into their container's"
    yield Outcome(PART, "memory with 100,000 contexts open", shipped["memory"], "MB", limit=60, told=told)


if __name__ == "__main__":
    kind, *numbers = sys.argv[1:]
    print(json.dumps({"seen": seen, "live": live}[kind](*map(int, numbers))))
