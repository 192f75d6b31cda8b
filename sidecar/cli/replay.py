"""What the command `replay` does: recorded alerts through a pipeline, and what came of them on standard output."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import Progress

from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents import terminal
from sidecar.incidents.falco_event import to_json
from sidecar.model import Message, Notification
from sidecar.sources import replay as source

WORTH_A_BAR = 1_000_000
"""Bytes of files that one waits for."""


def run(pipeline: Pipeline, files: Sequence[str], output: str) -> None:
    """Replay `files` and print as asked: `table`, `text`, `explain` or `jsonl`; at the end, what was counted."""
    _print(_replayed(pipeline, files), output)
    odd = ", ".join(f"{count} {reason}" for reason, count in sorted(pipeline.reasons.items()))
    told = f"{pipeline.received} alerts, {pipeline.detections} detections, {pipeline.correlator.opened} incidents"
    click.echo(told + (f"; odd: {odd}" if odd else ""), err=True)


def _replayed(pipeline: Pipeline, files: Sequence[str]) -> Iterator[Message]:
    with _progress(source.size(files)) as advanced:
        for line in source.lines(files, advanced):
            yield from pipeline.process_json(line)[1]
        yield from pipeline.flush()


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, for files large enough to wait for; else nothing."""
    if total < WORTH_A_BAR or not sys.stderr.isatty():
        yield lambda _read: None
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("replaying", total=total)
        yield lambda read: progress.update(task, completed=read)


def _print(notes: Iterator[Message], output: str) -> None:
    if output == "table":
        terminal.summary(notes, sys.stdout)
        return
    for note in notes:
        if output == "jsonl":
            sys.stdout.write(to_json(note).decode() + "\n")
        else:
            terminal.show(note, sys.stdout)
        if output == "explain" and isinstance(note, Notification):
            terminal.explain(note, sys.stdout)
