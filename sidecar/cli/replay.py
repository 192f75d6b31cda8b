"""The command `replay`: sends recorded alerts through a pipeline and prints the incidents."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from msgspec.structs import replace
from rich.console import Console
from rich.progress import Progress

from sidecar.cli.options import emit
from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents import terminal, view, why
from sidecar.incidents.falco_event import to_json
from sidecar.model import REJECTIONS, Alert, Message, Notification
from sidecar.sources import replay as source

PROGRESS_BYTES = 1_000_000
"""Size of the input from which on a progress bar is shown."""

NO_ALERT = ("not_json", "text_mode", "not_an_object", "too_deep", "no_rule")
"""Reasons that mean that a line is not an alert at all."""


def run(pipeline: Pipeline, paths: Sequence[str], output: str) -> bool:
    """Replay files and folders, and print the incidents in the form `output`, then the counts.

    Forms are `table`, `text`, `explain`, `jsonl` (notifications as they are sent), and `json` or `yaml`, which hold
    the counts too.

    Returns:
        Whether the input contained an alert.

    Raises:
        ConfigError: a file does not exist or cannot be read.
    """
    files = source.files(paths)
    declined_alerts: list[tuple[Alert, str]] = []
    if output == "explain":
        pipeline.report_declined(lambda alert, reason: declined_alerts.append((alert, reason)))
    if output in ("json", "yaml"):
        emit(_result(pipeline, files), output)
    else:
        _print(_replayed(pipeline, files), output)
    terminal.show_declined(declined_alerts, sys.stdout)
    if output == "explain":
        for place in why.without_incident(pipeline).places:
            if place.contexts or place.waiting:
                click.echo("\n".join(["", *why.lines(replace(place, declined=()))]))
    counts = (
        (pipeline.received, "alert"),
        (pipeline.detections, "detection"),
        (pipeline.correlator.opened, "incident"),
    )
    counted = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
    rejected = _by_reason("rejected or anomalous", pipeline.reasons)
    declined = _by_reason("declined", pipeline.declined)
    click.echo(counted + rejected + declined, err=True)
    if pipeline.received > sum(pipeline.reasons[reason] for reason in NO_ALERT):
        return True
    reason = max(NO_ALERT, key=lambda reason: pipeline.reasons[reason])
    hint = REJECTIONS[reason] if pipeline.reasons[reason] else "It is empty."
    click.echo(f"{', '.join(paths)}: no alert in it: {hint[0].lower()}{hint[1:]}", err=True)
    return False


def _result(pipeline: Pipeline, files: Sequence[str]) -> dict[str, Any]:
    """The last state of each incident, and what was counted."""
    notes = [note for note in _replayed(pipeline, files) if isinstance(note, Notification)]
    last = {note.incident: note for note in notes}
    return {
        "alerts": pipeline.received,
        "detections": pipeline.detections,
        "incidents": [view.from_notification(note) for note in last.values()],
        "rejected": dict(pipeline.reasons),
        "declined": dict(pipeline.declined),
    }


def _by_reason(words: str, counts: Counter[str]) -> str:
    """`; declined: 2 adopted, 1 job` to be appended; "" if nothing was counted."""
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    return f"; {words}: {listed}" if listed else ""


def _replayed(pipeline: Pipeline, files: Sequence[str]) -> Iterator[Message]:
    with _progress(source.size(files)) as advanced:
        for alert in source.alerts(files, advanced):
            yield from pipeline.process_json(alert)[1]
        yield from pipeline.flush()


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal for a large input, else nothing."""
    if total < PROGRESS_BYTES or not sys.stderr.isatty():
        yield lambda _read: None
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("replaying", total=total)
        yield lambda read: progress.update(task, completed=read)


def _print(notes: Iterator[Message], output: str) -> None:
    if output == "table":
        terminal.summary(notes, sys.stdout)
        return
    if output == "explain":
        _explain(notes)
        return
    for note in notes:
        if output == "jsonl":
            sys.stdout.write(to_json(note).decode() + "\n")
        else:
            terminal.show(note, sys.stdout)


def _explain(notes: Iterator[Message]) -> None:
    """Print the last state of each incident with its process tree."""
    last = {note.incident: note for note in notes if isinstance(note, Notification)}
    for note in last.values():
        terminal.show(note, sys.stdout)
        terminal.show_tree(view.from_notification(note), sys.stdout)
