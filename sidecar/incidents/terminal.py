"""An incident as a person wants to read it: what, how bad, where, how it went, and what to do next."""

import os
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from sidecar.incidents import view
from sidecar.model import Message, Notification, Report
from sidecar.text.escape import terminal

COLOURS = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "cyan"}

MOST = 20
"""Rows of the timeline that are shown."""

SHORT = 8
"""Characters of an id in a list; four are enough to ask for it."""

WIDTH = 80
"""Columns where there is no terminal that says how many it has."""


def console(out: TextIO) -> Console:
    """A console on `out`: colours only on a terminal, and never with NO_COLOR."""
    columns = os.environ.get("COLUMNS", "")
    width = None if out.isatty() else int(columns) if columns.isdigit() and int(columns) > 0 else WIDTH
    return Console(file=out, width=width, highlight=False, emoji=False, markup=False)


def show(note: Message, out: TextIO) -> None:
    """Print one message in full."""
    if isinstance(note, Report):
        console(out).print(
            Text.assemble((note.severity, COLOURS[note.severity]), f" {note.case}: {terminal(note.text)}")
        )
    else:
        incident(view.of(note), out)


def summary(notes: Iterable[Message], out: TextIO) -> None:
    """Print one row an incident, the last notification of each."""
    last = {note.incident: note for note in notes if isinstance(note, Notification)}
    table = _table("Severity", "Case and place", "Seen", "Incident")
    for note in last.values():
        told = view.of(note)
        table.add_row(_severity(told.severity), _case(told.case, told.place), str(told.detections), told.id)
    console(out).print(table if last else "No incident.")


def rows(listed: Iterable[view.Summary], out: TextIO) -> None:
    """Print a list of incidents, a row each."""
    table = _table("Severity", "Case and place", "State", "Last (UTC)", "Incident")
    for row in listed:
        last = f"{row.last[:10]} {row.last[11:16]}"
        table.add_row(_severity(row.severity), _case(row.case, row.place), row.state, last, row.id[:SHORT])
    console(out).print(table if table.rows else "No incident.")


def incident(told: view.Incident, out: TextIO) -> None:
    """Print an incident in full."""
    console(out).print(_panel(told))


def explain(note: Notification, out: TextIO) -> None:
    """Print the process tree of a notification's incident."""
    tree(view.of(note), out)


def tree(told: view.Incident, out: TextIO) -> None:
    """Print the process tree of an incident, with the detections on it and how each joined."""
    drawn = Tree(Text.assemble((told.case, "bold"), f"  {told.id}"))
    _branch(drawn, told.processes)
    console(out).print(drawn)


def _case(case: str, place: view.Place) -> Text:
    host = f" on {place.host}" if place.host and (place.pod or place.container_name) else ""
    return Text(terminal(case)) + Text(f"\n{terminal(place.words.removeprefix('pod ') + host)}", "dim")


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=heading != "Case and place", overflow="fold")
    return table


def _severity(severity: str) -> Text:
    return Text(severity, COLOURS[severity])


def _branch(tree: Tree, processes: Iterable[view.Branch]) -> None:
    for process in processes:
        branch = tree.add(Text.assemble((terminal(process.name or "?"), "bold"), f"  {process.pid}"))
        for event in process.events[:MOST]:
            detail = f"  [{event.detail}]" if event.detail else ""
            branch.add(
                Text.assemble(
                    (", ".join(event.groups), "yellow"),
                    f" by {event.join}: ",
                    terminal(event.command + detail),
                    (f"  {terminal(', '.join(event.rules))}", "dim"),
                )
            )
        if len(process.events) > MOST:
            branch.add(Text(f"and {len(process.events) - MOST} more", "dim"))
        _branch(branch, process.started)


def _panel(told: view.Incident) -> RenderableType:
    came_from = told.steps[-1].came_from
    rose = f"  (was {came_from})" if came_from else ""
    title = Text.assemble((f" {told.severity.upper()} ", COLOURS[told.severity]), " ", (told.case, "bold"), rose)
    parts: list[RenderableType] = [Text(f"{terminal(told.summary)}\n")] if told.summary else []
    parts += [_facts(told), Text("\nTimeline", "bold"), _timeline(told)]
    if told.triage:
        parts += [Text("\nNext steps", "bold"), _triage(told)]
    return Panel(Group(*parts), title=title, title_align="left", padding=(0, 1))


def _facts(told: view.Incident) -> Table:
    place = told.place
    container = f" (container {place.container_name or place.container})" if place.pod else ""
    host = f" on {place.host}" if place.container and place.host else ""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in (
        ("Where", place.words + container + host),
        ("Image", place.image),
        ("Evidence", ", ".join(group.name for group in told.groups if group.seen)),
        ("First", told.first),
        ("Last", told.last),
        ("Beware", "Falco dropped events during the incident: evidence may be missing" if told.incomplete else ""),
        ("Incident", f"{told.id}, {told.state}, {told.detections} detections"),
        ("Continues", told.previous),
    ):
        if value:
            table.add_row(Text(name, "dim"), Text(terminal(value)))
    return table


def _timeline(told: view.Incident) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(overflow="fold")
    events = told.timeline
    shown = events if len(events) <= MOST else events[: MOST - 1] + events[-1:]
    for event in shown:
        table.add_row(Text(f"+{event.after:.3f}s", "dim"), Text("\n".join(event.groups)), Text(_told(event)))
    if len(shown) < len(events):
        table.add_row("", Text(f"and {len(events) - len(shown)} more", "dim"), "")
    return table


def _told(event: view.Event) -> str:
    detail = f"  [{event.detail}]" if event.detail else ""
    story = " > ".join(process.name or str(process.pid) for process in event.path)
    lines = story, f"{event.command}{detail}", f"{', '.join(event.rules)} (joined by {event.join})"
    return "\n".join(map(terminal, lines))


def _triage(told: view.Incident) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for step in told.triage:
        command = Text(f"\n{terminal(step.command)}" if step.command else "", "cyan")
        table.add_row(Text(f"{step.number}.", "dim"), Text(terminal(step.do)) + command)
    return table
