"""`falco-correlator incidents`: the incidents of a running service or of a state file, on a terminal or as JSON."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import click
import msgspec

from sidecar.cli.incident_client import FileReader, HttpReader, IncidentReader, UnavailableError
from sidecar.cli.options import emit, formatted, output_option
from sidecar.errors import EXIT_WRONG
from sidecar.incidents import query, view
from sidecar.incidents.lookup import AmbiguousError, NotFoundError
from sidecar.settings.section import is_url
from sidecar.text import escape

P = ParamSpec("P")

EXIT_CODES = {NotFoundError: 1, AmbiguousError: 1, query.QueryError: EXIT_WRONG, UnavailableError: 3}

WATCH_SECONDS = 2.0
"""Time between two looks of --watch."""

EPILOG = "Exit codes: 0 success; 1 no such incident; 2 wrong usage; 3 the service or the state file cannot be read."

FILTERS: tuple[Callable[[Any], Any], ...] = (
    click.option("--severity", "-s", multiple=True, type=click.Choice(query.SEVERITIES), help="May be repeated."),
    click.option("--status", type=click.Choice(query.STATES), help="Only open or only closed incidents."),
    click.option(
        "--find",
        "-f",
        default="",
        metavar="TEXT",
        help="Part of a place, case, ID, image, command, file, address, technique, user or rule.",
    ),
    click.option("--namespace", "-n", default="", metavar="NAME", help="Only this namespace."),
    click.option("--address", default="", help="Address, or its beginning, that was contacted or is in a command."),
    click.option("--image", default="", metavar="TEXT", help="Part of the image's name."),
    click.option("--command", default="", metavar="TEXT", help="Part of a command."),
    click.option("--technique", default="", metavar="TEXT", help="MITRE ATT&CK: part of an ID or name."),
    click.option("--user", default="", metavar="TEXT", help="Part of the name of a process's user."),
    click.option("--rule", default="", metavar="TEXT", help="Part of a correlation or Falco rule's name."),
    click.option(
        "--since", default="", metavar="TIME", help="Last evidence from then on: 30m, 24h, or a date with time."
    ),
    click.option("--until", default="", metavar="TIME", help="Last evidence before then."),
    click.option("--sort", type=click.Choice(query.SORTS), default="last", show_default=True, help="Sort key."),
    click.option("--order", type=click.Choice(query.ORDERS), default="desc", show_default=True, help="Sort order."),
)


def _filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose incidents."""
    for option in reversed(FILTERS):
        command = option(command)
    return command


def _json_flag(command: Callable[..., None]) -> Callable[..., None]:
    """Add --json, which is short for `--output json`."""
    return click.option("--json", "output", flag_value="json", help="Short for -o json.")(command)


def _reporting_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Print an error that users can act on as one line, and exit with its code."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except tuple(EXIT_CODES) as error:
            click.echo(escape.terminal(str(error)), err=True)
            sys.exit(EXIT_CODES[type(error)])

    return wrapped


class _ListByDefault(click.Group):
    """A group whose command `list` need not be named: `incidents -s critical`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._with_command(args))

    def _with_command(self, args: list[str]) -> list[str]:
        at = 0
        while at < len(args) and args[at].partition("=")[0] in ("--url", "--state"):
            at += 1 if "=" in args[at] else 2
        if at < len(args) and (args[at] in self.commands or args[at] in ("-h", "--help")):
            return args
        return [*args[:at], "list", *args[at:]]


@click.group(cls=_ListByDefault, epilog=EPILOG)
@click.option(
    "--url",
    default="http://127.0.0.1:2812",
    show_default=True,
    envvar="FALCO_CORRELATOR_URL",
    help="The administration port of a running service.",
)
@click.option(
    "--state",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read this state file instead, even while a service is using it.",
)
@click.pass_context
@_reporting_errors
def incidents(context: click.Context, url: str, state: Path | None) -> None:
    """List incidents, show one, or export them. Without a command: list."""
    if not state and not is_url(url):
        raise click.BadParameter(f"expected http://HOST:PORT, got {url!r}", param_hint="--url")
    context.obj = FileReader(state) if state else HttpReader(url)


@incidents.command("list", epilog=EPILOG)
@_filtered
@click.option("--limit", type=click.IntRange(1, query.MAX_LIMIT), default=50, show_default=True, help="Maximum rows.")
@click.option("--watch", "-w", is_flag=True, help="Then print each incident that is new or has changed, until Ctrl-C.")
@output_option("wide", help="Also wide: one line each. json and yaml are as /api/v1/incidents.")
@_json_flag
@click.pass_obj
@_reporting_errors
def list_(reader: IncidentReader, /, limit: int, output: str, *, watch: bool, **filters: Any) -> None:
    r"""List incidents, one row each, newest evidence first.

    Age is the time since the last evidence. Examples:

    \b
      falco-correlator incidents list --severity critical --status open
      falco-correlator incidents list --since 24h -o wide
      falco-correlator incidents list --watch
    """
    parameters = {**_parameters(filters), "limit": str(limit)}
    page = reader.page(parameters)
    _print_rows(page, page.incidents, output)
    if watch:
        sys.stdout.flush()
        _watch(reader, parameters, page, output)
    elif page.total > len(page.incidents):
        click.echo(f"{len(page.incidents)} of {page.total}; use --limit or a filter to see others", err=True)


def _print_rows(page: view.Page, rows: Sequence[view.Summary], output: str, *, header: bool = True) -> None:
    """Print incidents of a page; without `header` as rows that are added to it."""
    if output in ("json", "yaml"):
        for value in [page] if header else rows:
            click.echo("---\n" * (output == "yaml" and not header) + formatted(value, output).rstrip("\n"))
        return
    from sidecar.incidents import terminal  # noqa: PLC0415 - rich makes `--help` slow

    show = terminal.wide_rows if output == "wide" else terminal.rows
    show(rows, sys.stdout, time.time_ns(), header=header)


def _watch(reader: IncidentReader, parameters: dict[str, str], page: view.Page, output: str) -> None:
    """Print incidents as they change. While the service restarts, it says so once and waits."""
    known = {row.id: _version(row) for row in page.incidents}
    is_gone = False
    try:
        while True:
            pause()
            try:
                page = reader.page(parameters)
            except UnavailableError as error:
                if not is_gone:
                    click.echo(escape.terminal(f"{error}; waiting for it"), err=True)
                is_gone = True
                continue
            is_gone = False
            rows = [row for row in reversed(page.incidents) if known.get(row.id) != _version(row)]
            known |= {row.id: _version(row) for row in rows}
            if rows:
                _print_rows(page, rows, output, header=False)
                sys.stdout.flush()
    except KeyboardInterrupt:
        return


def pause() -> None:
    """Wait between two looks."""
    time.sleep(WATCH_SECONDS)


def _version(row: view.Summary) -> tuple[object, ...]:
    return row.severity, row.state, row.case, row.detections


@incidents.command(epilog=EPILOG)
@click.argument("name", metavar="ID")
@click.option("--explain", is_flag=True, help="Also draw the process tree: the detections on each process.")
@output_option(help="json and yaml are as /api/v1/incidents/ID.")
@_json_flag
@click.pass_obj
@_reporting_errors
def show(reader: IncidentReader, /, name: str, output: str, *, explain: bool) -> None:
    """Show one incident in full.

    Four or more characters of its ID are enough if no other ID starts with them.
    """
    from sidecar.incidents import terminal  # noqa: PLC0415 - as above

    if not re.fullmatch(r"[0-9a-f]{4,16}", name):
        raise click.BadParameter("expected 4 to 16 characters out of 0-9 and a-f", param_hint="ID")
    incident = reader.incident(name)
    if output != "table":
        emit(incident, output)
        return
    terminal.show_incident(incident, sys.stdout)
    if explain:
        terminal.show_tree(incident, sys.stdout)


@incidents.command(epilog=EPILOG)
@_filtered
@click.pass_obj
@_reporting_errors
def export(reader: IncidentReader, /, **filters: Any) -> None:
    """Write every incident in full as a line of JSON."""
    for summary in _all(reader, _parameters(filters)):
        click.echo(_json(reader.incident(summary.id)))


@incidents.command("why", epilog=EPILOG)
@click.argument("place")
@output_option(help="json and yaml are as /api/v1/why.")
@_json_flag
@click.pass_obj
@_reporting_errors
def why_(reader: IncidentReader, /, place: str, output: str) -> None:
    """Say why a place has no incident.

    PLACE is a pod, namespace/pod, a container's name or ID, or a host. For each execution context it says which groups
    were seen, and what each case lacks. For other detections: which context they would join, or why they were declined.
    """
    from sidecar.incidents import why  # noqa: PLC0415 - as above

    found = reader.why(place)
    if output != "table":
        emit(found, output)
        return
    for each in found.places:
        click.echo("\n".join(map(escape.terminal, why.lines(each))))


def _all(reader: IncidentReader, parameters: dict[str, str]) -> Iterator[view.Summary]:
    offset = 0
    total = 1
    while offset < total:
        page = reader.page({**parameters, "limit": str(query.MAX_LIMIT), "offset": str(offset)})
        yield from page.incidents
        offset += query.MAX_LIMIT
        total = page.total


def _parameters(filters: dict[str, Any]) -> dict[str, str]:
    """The options as parameters of the API, without those that are not set."""
    names = {"find": "q", "status": "state"}
    return {
        names.get(name, name): ",".join(value) if isinstance(value, tuple) else value
        for name, value in filters.items()
        if value
    }


def _json(value: view.Incident) -> str:
    return escape.ascii_json(msgspec.to_builtins(value))
