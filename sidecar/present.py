"""An incident as a person wants to read it: what, how bad, where, how it went, and what to do next."""

import os
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from sidecar.escape import terminal
from sidecar.explain import Node, why
from sidecar.incident import rfc3339
from sidecar.model import Message, Notification, Report
from sidecar.notify import SECOND, Moment, moments, story

COLOURS = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "cyan"}

MOST = 20
"""Rows of the timeline that are shown."""


def console(out: TextIO) -> Console:
    """A console on `out`: colours only on a terminal, and never with NO_COLOR."""
    width = None if out.isatty() else int(os.environ.get("COLUMNS", "100"))
    return Console(file=out, width=width, highlight=False, emoji=False, markup=False)


def show(note: Message, out: TextIO) -> None:
    """Print one message in full."""
    if isinstance(note, Report):
        console(out).print(
            Text.assemble((note.severity, COLOURS[note.severity]), f" {note.case}: {terminal(note.text)}")
        )
    else:
        console(out).print(_panel(note))


def summary(notes: Iterable[Message], out: TextIO) -> None:
    """Print one row an incident, the last notification of each."""
    last = {note.incident: note for note in notes if isinstance(note, Notification)}
    table = Table(box=None, pad_edge=False)
    for heading in ("Severity", "Case", "Where", "Seen"):
        table.add_column(heading)
    table.add_column("Incident", no_wrap=True)
    for note in last.values():
        table.add_row(
            Text(note.severity, COLOURS[note.severity]),
            note.case,
            terminal(_short_place(note)),
            str(note.count),
            note.incident,
        )
    console(out).print(table if last else "No incident.")


def explain(note: Notification, out: TextIO) -> None:
    """Print the process tree of an incident, with the detections on it and how each joined."""
    tree = Tree(Text.assemble((note.case, "bold"), f"  {note.incident}, step {note.step}"))
    _branch(tree, why(note))
    console(out).print(tree)


def _branch(tree: Tree, nodes: Iterable[Node]) -> None:
    for node in nodes:
        branch = tree.add(Text.assemble((terminal(node.name or "?"), "bold"), f"  {node.pid}"))
        for seen in node.told[:MOST]:
            detail = f"  [{seen.detail}]" if seen.detail else ""
            groups = ", ".join(seen.groups)
            branch.add(
                Text.assemble(
                    (groups, "yellow"),
                    f" by {seen.join}: ",
                    terminal(seen.cmdline + detail),
                    (f"  {terminal(', '.join(seen.rules))}", "dim"),
                )
            )
        if len(node.told) > MOST:
            branch.add(Text(f"and {len(node.told) - MOST} more", "dim"))
        _branch(branch, node.children)


def _panel(note: Notification) -> RenderableType:
    rose = f"  (was {note.came_from})" if note.came_from else ""
    title = Text.assemble((f" {note.severity.upper()} ", COLOURS[note.severity]), " ", (note.case, "bold"), rose)
    parts: list[RenderableType] = [_facts(note), Text("\nTimeline", "bold"), _timeline(note)]
    if note.triage:
        parts += [Text("\nNext steps", "bold"), _triage(note)]
    return Panel(Group(*parts), title=title, title_align="left", padding=(0, 1))


def _facts(note: Notification) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in (
        ("Where", _place(note)),
        ("Image", note.where.image),
        ("Evidence", ", ".join(note.groups)),
        ("First", rfc3339(note.first)),
        ("Last", rfc3339(note.last)),
        ("Beware", "Falco dropped events meanwhile: evidence may be missing" if note.incomplete else ""),
        ("Incident", f"{note.incident}, step {note.step}, {note.count} detections"),
    ):
        if value:
            table.add_row(Text(name, "dim"), Text(terminal(value)))
    return table


def _timeline(note: Notification) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(overflow="fold")
    told = moments(note)
    shown = told if len(told) <= MOST else told[: MOST - 1] + told[-1:]
    for moment in shown:
        after = f"+{(moment.detection.time - note.first) / SECOND:.3f}s"
        table.add_row(Text(after, "dim"), Text("\n".join(moment.groups)), Text(_told(moment)))
    if len(shown) < len(told):
        table.add_row("", Text(f"and {len(told) - len(shown)} more", "dim"), "")
    return table


def _told(moment: Moment) -> str:
    detection = moment.detection
    detail = f"  [{detection.detail}]" if detection.detail else ""
    rules = ", ".join(moment.rules)
    lines = story(detection), f"{detection.cmdline}{detail}", f"{rules} (joined by {detection.join})"
    return "\n".join(map(terminal, lines))


def _triage(note: Notification) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for number, (words, command) in enumerate(note.triage, 1):
        table.add_row(
            Text(f"{number}.", "dim"), Text(words) + Text(f"\n{terminal(command)}" if command else "", "cyan")
        )
    return table


def _place(note: Notification) -> str:
    where = note.where
    if where.pod:
        return (
            f"pod {where.namespace}/{where.pod} (container {where.container_name or where.container}) on {where.host}"
        )
    if where.container:
        return f"container {where.container_name or where.container} on {where.host}"
    return f"host {where.host}"


def _short_place(note: Notification) -> str:
    where = note.where
    name = f"{where.namespace}/{where.pod}" if where.pod else where.container_name or where.container
    return f"{name} on {where.host}" if name else f"host {where.host}"
