"""Incidents as text for a terminal: in full, as a process tree, and as a list."""

import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TextIO

import msgspec
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from sidecar.correlation.notification import SECOND_NS
from sidecar.incidents import view
from sidecar.meaning.declined import REASONS
from sidecar.model import Alert, Message, Notification, Report
from sidecar.text.escape import terminal

COLOURS = {"critical": "bold white on red", "high": "bold red", "medium": "yellow", "low": "cyan"}

MAX_EVENTS = 20
"""Events of a timeline, or of a process in the tree, that are printed."""

MAX_DECLINED = 200
"""Declined detections that are printed."""

SHORT_ID_CHARS = 8
"""Characters of an id in a list; any unique prefix of four or more identifies the incident."""

WRAPPED = ("Case and place", "Declined detection", "Reason")
"""Columns of tables whose text may take several lines."""

LIST_WIDTHS = (SHORT_ID_CHARS, 8, 6, 5, 9)
"""Least widths of the columns of a list before the last one."""

MAX_NAMESPACE_COLUMNS = 16
"""A longer namespace is cut in a list; `wide_rows` has it whole."""

UNITS = {1: "s", 60: "m", 3600: "h"}

WIDTH = 80
"""Columns when the output is not a terminal."""


def console(out: TextIO) -> Console:
    """A console on `out`: in colour only on a terminal, and never with NO_COLOR."""
    columns = os.environ.get("COLUMNS", "")
    width = None if out.isatty() else int(columns) if columns.isdigit() and int(columns) > 0 else WIDTH
    return _Console(file=out, width=width, highlight=False, emoji=False, markup=False)


class _Console(Console):
    """A console whose reader may go away: the commands end quietly then, and with the same code as without it."""

    def on_broken_pipe(self) -> None:
        """Rich would exit with 1."""
        raise BrokenPipeError


def show(note: Message, out: TextIO) -> None:
    """Print one message in full."""
    if isinstance(note, Report):
        console(out).print(
            Text.assemble((note.severity, COLOURS[note.severity]), f" {note.case}: {terminal(note.text)}")
        )
    else:
        show_incident(view.from_notification(note), out)


def summary(notes: Iterable[Message], out: TextIO) -> None:
    """Print one row per incident, as of its last notification."""
    last = {note.incident: note for note in notes if isinstance(note, Notification)}
    table = _table("Severity", "Case and place", "Seen", "Incident")
    for note in last.values():
        incident = view.from_notification(note)
        table.add_row(
            _severity(incident.severity), _case(incident.case, incident.place), str(incident.detections), incident.id
        )
    console(out).print(table if last else "No incident.")


def show_declined(alerts: Sequence[tuple[Alert, str]], out: TextIO) -> None:
    """Print detections of which a group of evidence fell away, each with the reason."""
    if not alerts:
        return
    table = _table("Declined detection", "Reason")
    for alert, reason in alerts[:MAX_DECLINED]:
        command = terminal(alert.fields.cmdline or alert.fields.name or "")
        table.add_row(Text(f"{terminal(alert.rule)}: {command}"), Text(f"{reason}: {REASONS[reason].meaning}"))
    console(out).print(table)
    if len(alerts) > MAX_DECLINED:
        console(out).print(f"and {len(alerts) - MAX_DECLINED} more")


def rows(summaries: Iterable[view.Summary], out: TextIO, now: int, *, header: bool = True) -> None:
    """Print a list of incidents, one row each; `age` is the time since the last evidence, at `now` (ns since 1970)."""
    table = _table("Incident", "Severity", "State", "Age", "Namespace", "Case and place")
    table.show_header = header
    for column, width in zip(table.columns, LIST_WIDTHS, strict=False):  # so that rows added by --watch line up
        column.min_width = width
    table.columns[4].max_width = MAX_NAMESPACE_COLUMNS
    table.columns[4].overflow = "ellipsis"
    for row in summaries:
        place = msgspec.structs.replace(row.place, words=row.place.words.removeprefix(f"pod {row.place.namespace}/"))
        table.add_row(
            row.id[:SHORT_ID_CHARS],
            _severity(row.severity),
            row.state,
            age(row.last, now),
            Text(terminal(row.place.namespace or "-")),
            _case(row.case, place),
        )
    console(out).print(table if table.rows else "No incident.")


def wide_rows(summaries: Iterable[view.Summary], out: TextIO, now: int, *, header: bool = True) -> None:
    """Print a list of incidents, each on one line however long, with everything that a list has."""
    names = "Incident", "Severity", "State", "Age", "Last", "Namespace", "Pod", "Container", "Host", "Case"
    lines = [tuple(map(str.upper, names))] if header else []
    for row in summaries:
        place = row.place
        where = place.namespace, place.pod, place.container_name or place.container, place.host
        values = row.id, row.severity, row.state, age(row.last, now), row.last, *where, row.case
        lines.append(tuple(terminal(value) or "-" for value in values))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        text = "  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip()
        out.write(f"{text}\n")


def age(time: str, now: int) -> str:
    """The time since an RFC 3339 time as kubectl writes it: `45s`, `12m`, `3h20m`, `2d`."""
    seconds = max(now // SECOND_NS - int(datetime.fromisoformat(f"{time[:19]}+00:00").timestamp()), 0)
    for limit, unit, smaller in ((120, 1, 0), (600, 60, 1), (10_800, 60, 0), (28_800, 3600, 60), (172_800, 3600, 0)):
        if seconds < limit:
            rest = seconds % unit // smaller if smaller else 0
            return f"{seconds // unit}{UNITS[unit]}{f'{rest}{UNITS[smaller]}' if rest else ''}"
    return f"{seconds // 86_400}d"


def show_incident(incident: view.Incident, out: TextIO) -> None:
    """Print an incident in full."""
    console(out).print(_panel(incident))


def show_tree(incident: view.Incident, out: TextIO) -> None:
    """Print the process tree of an incident, with the detections on it and how each joined."""
    drawn = Tree(Text.assemble((incident.case, "bold"), f"  {incident.id}"))
    _branch(drawn, incident.processes)
    console(out).print(drawn)


def _case(case: str, place: view.Place) -> Text:
    host = f" on {place.host}" if place.host and (place.pod or place.container_name) else ""
    return Text(terminal(case)) + Text(f"\n{terminal(place.words.removeprefix('pod ') + host)}", "dim")


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=heading not in WRAPPED, overflow="fold")
    return table


def _severity(severity: str) -> Text:
    return Text(severity, COLOURS[severity])


def _branch(tree: Tree, processes: Iterable[view.ProcessNode]) -> None:
    for process in processes:
        branch = tree.add(Text.assemble((terminal(process.name or "?"), "bold"), f"  {process.pid}"))
        for event in process.events[:MAX_EVENTS]:
            detail = f"  [{event.detail}]" if event.detail else ""
            branch.add(
                Text.assemble(
                    (", ".join(event.groups), "yellow"),
                    f" by {event.join}: ",
                    terminal(event.command + detail),
                    (f"  {terminal(', '.join(event.rules))}", "dim"),
                )
            )
        if len(process.events) > MAX_EVENTS:
            branch.add(Text(f"and {len(process.events) - MAX_EVENTS} more", "dim"))
        _branch(branch, process.started)


def headline(incident: view.Incident) -> Text:
    """Severity and case of an incident, and the severity that it rose from."""
    came_from = incident.steps[-1].came_from
    before = f"  (was {came_from})" if came_from else ""
    return Text.assemble(
        (f" {incident.severity.upper()} ", COLOURS[incident.severity]), " ", (terminal(incident.case), "bold"), before
    )


def _panel(incident: view.Incident) -> RenderableType:
    title = headline(incident)
    parts: list[RenderableType] = [Text(f"{terminal(incident.summary)}\n")] if incident.summary else []
    parts += [_facts(incident), Text("\nTimeline", "bold"), _timeline(incident)]
    if incident.triage:
        parts += [Text("\nNext steps", "bold"), _triage(incident)]
    return Panel(Group(*parts), title=title, title_align="left", padding=(0, 1))


def _facts(incident: view.Incident) -> Table:
    place = incident.place
    container = f" (container {place.container_name or place.container})" if place.pod else ""
    host = f" on {place.host}" if place.container and place.host else ""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in (
        ("Where", place.words + container + host),
        ("Image", place.image),
        ("Evidence", ", ".join(group.name for group in incident.groups if group.seen)),
        ("First", incident.first),
        ("Last", incident.last),
        ("Confidence", "low: some evidence came from orphaned processes" if incident.confidence == "low" else ""),
        ("Beware", "Falco dropped events during the incident: evidence may be missing" if incident.incomplete else ""),
        ("Incident", f"{incident.id}, {incident.state}, {incident.detections} detections"),
        ("Continues", incident.previous),
    ):
        if value:
            table.add_row(Text(name, "dim"), Text(terminal(value)))
    return table


def _timeline(incident: view.Incident) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(overflow="fold")
    events = incident.timeline
    shown = events if len(events) <= MAX_EVENTS else events[: MAX_EVENTS - 1] + events[-1:]
    for event in shown:
        table.add_row(Text(f"+{event.after:.3f}s", "dim"), Text("\n".join(event.groups)), Text(_event_text(event)))
    if len(shown) < len(events):
        table.add_row("", Text(f"and {len(events) - len(shown)} more", "dim"), "")
    return table


def _event_text(event: view.Event) -> str:
    detail = f"  [{event.detail}]" if event.detail else ""
    processes = " > ".join(process.name or str(process.pid) for process in event.path)
    lines = processes, f"{event.command}{detail}", f"{', '.join(event.rules)} (joined by {event.join})"
    return "\n".join(map(terminal, lines))


def _triage(incident: view.Incident) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for step in incident.triage:
        command = Text(f"\n{terminal(step.command)}" if step.command else "", "cyan")
        table.add_row(Text(f"{step.number}.", "dim"), Text(terminal(step.do)) + command)
    return table
