"""The whole sidecar over Falco's gRPC output: against a reader that does nothing, and at a steady pace."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import workload
from falco_h2 import FastFalco
from outcome import Outcome, Plan, interleaved, medians, ratio
from processes import PYTHON, Child, child, service, wait_until
from support.fake_falco import responses

PART = "gRPC"
WARM = 500
PEER = Path(__file__).parent / "peers" / "noop_grpcio.py"


@contextmanager
def falco(folder: Path) -> Iterator[FastFalco]:
    """A Falco on a socket of its own."""
    path = folder / f"falco-{time.monotonic_ns()}.sock"
    fake = FastFalco(path)
    try:
        yield fake
    finally:
        fake.close()
        path.unlink()


def sidecar(folder: Path, address: str, **grpc: str) -> AbstractContextManager[Child]:
    """Our service, with incidents going to a file."""
    settings: dict[str, Any] = {
        "http": {"enabled": False},
        "grpc": {"enabled": True, "address": address, **grpc},
        "sinks": {"file": {"path": str(folder / "incidents.jsonl")}},
    }
    return service(folder, settings)


def full_speed(name: str, plan: Plan, messages: list[bytes]) -> float:
    """CPU microseconds an alert of a reader that finds all of them queued."""
    with falco(plan.folder) as fake:
        noop = name == "no-op grpcio"
        started = child([PYTHON, PEER, fake.address]) if noop else sidecar(plan.folder, fake.address)
        with started as reader:
            _taken(fake, reader, messages[:WARM])
            before = reader.cpu()
            _taken(fake, reader, messages[WARM:])
            return (reader.cpu() - before) / (len(messages) - WARM) * 1e6


def _taken(fake: FastFalco, reader: Child, messages: list[bytes]) -> None:
    """Queue messages, and wait until the reader is through: it asks for more only then."""
    asked = fake.asked
    fake.queue.extend(messages)
    wait_until(lambda: fake.asked > asked or reader.must_live())
    wait_until(lambda: not fake.queue)
    asked = fake.asked
    wait_until(lambda: fake.asked > asked + 1 or reader.must_live())


def paced(plan: Plan, messages: list[bytes]) -> float:
    """The share of a core (%) at 1,000 alerts a second, asked for every 100 ms."""
    with falco(plan.folder) as fake, sidecar(plan.folder, fake.address, min_poll_interval="100ms") as reader:
        _taken(fake, reader, messages[:WARM])
        before, began = reader.cpu(), time.monotonic()
        thread = threading.Thread(target=_trickle, args=(fake, messages[WARM : WARM + 1000 * plan.seconds]))
        thread.start()
        thread.join()
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not fake.queue, 2)
        return (reader.cpu() - before) / (time.monotonic() - began) * 100


def _trickle(fake: FastFalco, messages: list[bytes]) -> None:
    began = time.monotonic()
    for number, message in enumerate(messages):
        time.sleep(max(began + number / 1000 - time.monotonic(), 0))
        fake.queue.append(message)


def outcomes(plan: Plan) -> Iterator[Outcome]:
    """At full speed for both shares, then paced."""
    for share in (0.02, 1.0):
        count = max(plan.alerts, 1000 * plan.seconds) + WARM
        messages = responses(workload.generate(count, share).alerts)
        runs = interleaved(
            plan.runs, {name: partial(full_speed, name, plan, messages) for name in ("sidecar", "no-op grpcio")}
        )
        what = f"whole sidecar at {share:.0%} relevant, x of a no-op grpcio reader"
        yield Outcome(PART, what, ratio(runs, "sidecar", "no-op grpcio"), limit=0.5, told=medians(runs), runs=runs)
        runs = interleaved(plan.runs, {"sidecar": partial(paced, plan, messages)})
        share_of_core = sorted(runs["sidecar"])[plan.runs // 2]
        what = f"1,000 alerts/s at {share:.0%} relevant, asked every 100 ms"
        yield Outcome(PART, what, share_of_core, "% of a core", limit=5, runs=runs)
