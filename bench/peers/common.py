"""What every peer in a process of its own shares: read the file, do the work, tell cost, memory and answer as JSON.

A peer has msgspec's typed decode for JSON where it brings none of its own, so that correlation is what differs.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

WINDOW_NS = 900 * 10**9

KINDS = {"webrce_web_shell": "W", "webrce_shell_technique": "N", "webrce_network": "N", "webrce_credential": "C"}
"""Shell technique or network: one or the other will do."""


class Fields(msgspec.Struct, gc=False, rename={"container": "container.id", "session": "proc.sid"}):
    """The two that make the key."""

    container: str = ""
    session: int = 0


class Alert(msgspec.Struct, gc=False):
    """What the rule needs, and nothing else."""

    output_fields: Fields
    time: str
    tags: list[str]


_decode = msgspec.json.Decoder(Alert).decode


def relevant(lines: Iterable[bytes]) -> Iterator[tuple[str, str, int]]:
    """Key, kind (W, N, C) and time in nanoseconds of each alert that the rule cares about."""
    for line in lines:
        alert = _decode(line)
        kind = next((KINDS[tag] for tag in alert.tags if tag in KINDS), None)
        if kind:
            yield f"{alert.output_fields.container}/{alert.output_fields.session}", kind, nanoseconds(alert.time)


def nanoseconds(stamp: str) -> int:
    """`2026-11-24T03:03:10.138731669Z`; all of the workload lies within one day."""
    hours, minutes, rest = stamp[11:].split(":")
    seconds, decimals = rest[:-1].split(".")
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 10**9 + int(decimals)


def peak_memory() -> float:
    """The largest resident size of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def run(work: Callable[[Path], Iterable[str]]) -> None:
    """Do the work on the file that the command line names."""
    began = time.process_time()
    answer = sorted(set(work(Path(sys.argv[1]))))
    cpu = time.process_time() - began
    print(json.dumps({"cpu": cpu, "memory": peak_memory(), "answer": answer}))
