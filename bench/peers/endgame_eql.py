"""Endgame's EQL in Python. `sequence` knows one order only; `join` knows all orders, but no window."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import common
import eql

KINDS = '[any where kind == "W"] [any where kind == "N"] [any where kind == "C"]'
QUERIES = {"sequence": f"sequence by key with maxspan=15m {KINDS}", "join": f"join by key {KINDS}"}


def events(path: Path) -> Iterator[eql.Event]:
    """The relevant alerts (chosen for it: it does not pay for the others); times in ticks of 100 ns, its unit."""
    with path.open("rb") as lines:
        for key, kind, at in common.relevant(lines):
            yield eql.Event("any", at // 100, {"key": key, "kind": kind})


def work(path: Path) -> Iterable[str]:
    """Run the query of the name that the command line gives."""
    found: list[str] = []
    engine = eql.PythonEngine()
    engine.add_query(eql.parse_query(QUERIES[sys.argv[2]], implied_any=True))
    engine.add_output_hook(lambda output: found.append(output.events[-1].data["key"]))
    engine.stream_events(events(path))
    return found


if __name__ == "__main__":
    common.run(work)
