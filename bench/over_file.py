"""Decode, classify and correlate without a transport: against the bare decode, in time and instructions."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import instructions
import msgspec
import workload
from outcome import Outcome, Plan, interleaved, medians, ratio

from sidecar.alerts import decode
from sidecar.correlation.pipeline import Pipeline
from sidecar.rules.loading import SHIPPED, load
from sidecar.service.run import collect_rarely, warm_up
from sidecar.text.redaction.redactor import Redactor

PART = "decode, classify, correlate"


class Whole(decode.JsonEnvelope, gc=False):
    """Everything that the service decodes of a relevant alert, in one pass: the floor."""

    output_fields: decode.Fields | None = None  # type: ignore[assignment]


def works() -> dict[str, Callable[[bytes], object]]:
    """What is done with each alert, made anew for each run."""
    rules, redact = load([SHIPPED / "correlation"]), Redactor()
    warm_up(rules, redact)
    return {
        "pipeline": Pipeline(rules, time.monotonic, redact=redact).process_json,
        "msgspec": msgspec.json.Decoder(Whole, strict=False).decode,
        "json.loads": json.loads,
    }


def cost(name: str, alerts: list[bytes]) -> float:
    """CPU microseconds an alert."""
    work = works()[name]
    collect_rarely()
    began = time.process_time()
    for alert in alerts:
        work(alert)
    return (time.process_time() - began) / len(alerts) * 1e6


def outcomes(plan: Plan) -> Iterator[Outcome]:
    """CPU time at 2 % and 100 % relevant, and instructions at 2 %."""
    for share in (0.02, 1.0):
        alerts = workload.generate(plan.alerts, share).alerts
        runs = interleaved(plan.runs, {name: partial(cost, name, alerts) for name in works()})
        told = medians(runs)
        floor = ratio(runs, "pipeline", "msgspec")
        yield Outcome(
            PART, f"CPU at {share:.0%} relevant, x of msgspec typed decode alone", floor, told=told, runs=runs
        )
    yield from in_instructions()


def in_instructions() -> Iterator[Outcome]:
    """The judged rows: instructions repeat where times do not."""
    why = instructions.unable()
    counted = {} if why else {name: instructions.per_alert(name, 0.02) for name in works()}
    told = why or ", ".join(f"{name} {count:,.0f}" for name, count in counted.items()) + " instructions an alert"
    for other, limit in (("msgspec", 1.5), ("json.loads", 0.3)):
        measured = counted["pipeline"] / counted[other] if counted else None
        named = {"msgspec": "msgspec typed decode", "json.loads": "json.loads"}[other]
        what = f"instructions at 2% relevant, x of {named} alone"
        yield Outcome(PART, what, measured, limit=limit, told=told, runs={k: [v] for k, v in counted.items()})


if __name__ == "__main__":  # under callgrind: NAME COUNT SHARE
    work = works()[sys.argv[1]]
    given = workload.generate(instructions.MOST, float(sys.argv[3])).alerts
    collect_rarely()  # as the service does
    for alert in given[: int(sys.argv[2])]:
        work(alert)
