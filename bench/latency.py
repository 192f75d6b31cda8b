"""From Falco's POST to Falcosidekick: what passing alerts on costs, whether order is kept, and how long things take.

One connection that waits for each answer, as Falco's is; the sink is a process of its own on the same clock.
"""

import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import workload
from outcome import Outcome, Plan, interleaved, medians, quantile, ratio
from processes import PYTHON, child, free_port, service, wait_for_port
from sink import Note, read

PASS, LATENCY = "pass-through", "latency"
SINK = Path(__file__).with_name("sink.py")


class Sent(NamedTuple):
    """One alert, and when its last byte was given to the kernel (monotonic clock, ns)."""

    at: int
    body: bytes


class Round(NamedTuple):
    """What one round gave: CPU of the service (us an alert), what was sent, what arrived."""

    cost: float
    sent: list[Sent]
    notes: list[Note]


def send(port: int, bodies: Sequence[bytes], rate: float = 0) -> list[Sent]:
    """POST one after the other, each when the one before is answered; with a rate at that many a second."""
    sent: list[Sent] = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.monotonic()
        for number, body in enumerate(bodies):
            if rate:
                time.sleep(max(began + number / rate - time.monotonic(), 0))
            head = b"POST / HTTP/1.1\r\nHost: falco\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % len(body) + body)
            sent.append(Sent(time.monotonic_ns(), body))
            if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("an alert was not taken")
    return sent


def play(plan: Plan, bodies: Sequence[bytes], mode: str, rate: float = 0) -> Round:
    """A service and its sink, one round of alerts, and the wait until all has arrived."""
    port, sink_port, file = free_port(), free_port(), plan.folder / f"notes-{time.monotonic_ns()}"
    settings = {
        "http": {"port": port},
        "pass_through": {"mode": mode, "queue_size": 1_000_000},
        "sinks": {"falcosidekick": {"url": f"http://127.0.0.1:{sink_port}/"}},
    }
    with child([PYTHON, SINK, str(sink_port), file]) as sink:
        wait_for_port(sink_port, sink)
        with service(plan.folder, settings) as measured:
            wait_for_port(port, measured)
            before = measured.cpu()
            sent = send(port, bodies, rate)
            time.sleep(1)
            cost = (measured.cpu() - before) / len(bodies) * 1e6
    return Round(cost, sent, [note for note in read(file) if note.body != "{}"])


def outcomes(plan: Plan) -> Iterator[Outcome]:
    """Pass-through on and off at full speed, then both kinds of latency at 1,000 alerts a second."""
    bodies = workload.generate(plan.alerts, 0.02).alerts
    rounds: list[Round] = []
    runs = interleaved(
        plan.runs,
        {
            "on": lambda: (rounds.append(play(plan, bodies, "others")), rounds[-1].cost)[1],
            "off": lambda: play(plan, bodies, "none").cost,
        },
    )
    yield Outcome(
        PASS, "CPU with pass-through on, x of off", ratio(runs, "on", "off"), limit=2, told=medians(runs), runs=runs
    )
    out_of_order = sum(not in_order(each) for each in rounds)
    told = f"{len(rounds)} rounds of {len(bodies):,} alerts, each compared with what was sent"
    yield Outcome(PASS, "rounds in which order or an alert was lost", out_of_order, "", limit=0, told=told)
    paced = [play(plan, attacks(1000 * plan.seconds), "others", 1000) for _ in range(plan.runs)]
    yield from _latencies(
        "alert in -> the same alert at Falcosidekick, p99", [passed_on(each) for each in paced], 5, PASS
    )
    yield from _latencies(
        "alert in -> notification at Falcosidekick, p99", [notified(each) for each in paced], 10, LATENCY
    )


def _latencies(what: str, rounds: list[list[float]], limit: float, part: str) -> Iterator[Outcome]:
    p99 = [quantile(each, 0.99) for each in rounds]
    p50 = [quantile(each, 0.5) for each in rounds]
    told = f"p50 {quantile(p50, 0.5):.2f} ms, {sum(map(len, rounds)):,} in {len(rounds)} rounds at 1,000 alerts/s"
    yield Outcome(part, what, quantile(p99, 0.5), "ms", limit=limit, told=told, runs={"p99": p99, "p50": p50})


def attacks(count: int) -> list[bytes]:
    """A stream in which every tenth alert is the next step of an attack: web shell, network, credential."""
    made = []
    for number in range(count):
        step, at = number // 10, number / 1000
        due = number % 10 == 0
        container = 100_000 + step // 3 if due else number % 50
        made.append(workload.alert(number, workload.Event(at, container, 0, "WNC"[step % 3] if due else "")))
    return made


def in_order(played: Round) -> bool:
    """Whether the sink got exactly the alerts that are to be passed on, byte for byte in the order of sending."""
    arrived = [note.body for note in played.notes if '"incident.id"' not in note.body]
    return arrived == [sent.body.decode() for sent in played.sent if b'"webrce_' not in sent.body]


def passed_on(played: Round) -> list[float]:
    """Milliseconds from sent to arrived, of each alert that was passed on."""
    arrived = {note.body: note.at for note in played.notes}
    found = [(arrived.get(sent.body.decode()), sent.at) for sent in played.sent]
    return [(at - sent) / 1e6 for at, sent in found if at is not None]


def notified(played: Round) -> list[float]:
    """Milliseconds from the alert that decided a step to its notification."""
    steps: dict[str, list[int]] = {}
    for sent in played.sent:
        if b'"webrce_' in sent.body:
            fields: dict[str, Any] = msgspec.json.decode(sent.body)["output_fields"]
            steps.setdefault(fields["container.id"], []).append(sent.at)
    took = []
    for note in played.notes:
        if '"incident.id"' in note.body:
            fields = msgspec.json.decode(note.body)["output_fields"]
            took.append((note.at - steps[fields["container.id"]][int(fields["incident.step"])]) / 1e6)
    return took
