"""bytewax: its dataflow and its state per key; what is done with the state we had to write, and it never expires."""

from collections.abc import Iterable
from pathlib import Path

import bytewax.operators as op
import common
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, run_main

State = dict[str, int]


def step(state: State | None, event: tuple[str, int]) -> tuple[State | None, bool]:
    """Remember when each kind was seen last; the answer is whether all lie within the window."""
    kind, at = event
    state = {} if state is None else state
    state[kind] = max(at, state.get(kind, 0))
    return state, len(state) == 3 and max(state.values()) - min(state.values()) <= common.WINDOW_NS


def work(path: Path) -> Iterable[str]:
    """Run the flow."""
    flow, found = Dataflow("rule"), list[tuple[str, bool]]()
    lines = op.input("alerts", flow, FileSource(path, batch_size=1000))
    keyed = op.flat_map("decode", lines, lambda line: [(k, (kind, at)) for k, kind, at in common.relevant([line])])
    judged = op.stateful_map("correlate", keyed, step)
    op.output("found", op.filter("true", judged, lambda pair: pair[1]), TestingSink(found))
    run_main(flow)
    return [key for key, _ in found]


if __name__ == "__main__":
    common.run(work)
