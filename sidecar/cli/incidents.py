"""`falco-correlator incidents`: what the service has found, on a terminal or as JSON."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import click

from sidecar.errors import EXIT_WRONG

P = ParamSpec("P")

NOT_FOUND, UNANSWERED = 1, 3

EPILOG = (
    "Exit codes: 0 all well; 1 there is no such incident; 2 wrong usage; 3 the service or the file does not answer."
)

SEVERITIES = ("critical", "high", "medium", "low")
STATES, SORTS, ORDERS = ("open", "closed"), ("last", "first", "severity", "count"), ("desc", "asc")
"""Those of `query`, which is not imported for the sake of `--version`."""

FILTERS: tuple[Callable[[Any], Any], ...] = (
    click.option("--severity", "-s", multiple=True, type=click.Choice(SEVERITIES), help="May be repeated."),
    click.option("--status", type=click.Choice(STATES), help="Open or closed ones only."),
    click.option("--find", "-f", default="", metavar="TEXT", help="Part of a place, a case or an id."),
    click.option("--since", default="", metavar="DURATION", help="Last evidence not older than this: 30m, 24h."),
    click.option(
        "--sort",
        type=click.Choice(SORTS),
        default="last",
        show_default=True,
        help="What to sort by.",
    ),
    click.option("--order", type=click.Choice(ORDERS), default="desc", show_default=True, help="Descending or not."),
)


def filters(command: Callable[..., None]) -> Callable[..., None]:
    """The options that choose incidents."""
    for option in reversed(FILTERS):
        command = option(command)
    return command


def clean(command: Callable[P, None]) -> Callable[P, None]:
    """Tell in a plain line what cannot be answered, with the exit code for it."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        from sidecar.cli.incident_client import AskError, NoSuchIncidentError  # noqa: PLC0415
        from sidecar.incidents.query import QueryError  # noqa: PLC0415
        from sidecar.text.escape import terminal  # noqa: PLC0415

        codes = {NoSuchIncidentError: NOT_FOUND, QueryError: EXIT_WRONG, AskError: UNANSWERED}
        try:
            command(*args, **kwargs)
        except tuple(codes) as error:
            click.echo(terminal(str(error)), err=True)
            sys.exit(codes[type(error)])

    return wrapped


@click.group(invoke_without_command=True, epilog=EPILOG)
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
    help="Read this state file instead, whether or not a service uses it.",
)
@click.pass_context
def incidents(context: click.Context, url: str, state: Path | None) -> None:
    """What was found: list incidents, show one, export them. Without a command: list."""
    from sidecar.cli import incident_client  # noqa: PLC0415

    context.obj = clean_made(lambda: incident_client.OfFile(state) if state else incident_client.OfService(url))
    if context.invoked_subcommand is None:
        context.invoke(list_)


def clean_made(make: Callable[[], Any]) -> Any:
    """The result of `make`; its error is reported in a plain line."""
    made: list[Any] = []
    clean(lambda: made.append(make()))()
    return made[0]


@incidents.command("list", epilog=EPILOG)
@filters
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, like /api/v1/incidents.")
@click.pass_obj
@clean
def list_(asked: Any, /, limit: int, *, as_json: bool, **chosen: Any) -> None:
    """List incidents, a row each, the newest first."""
    from sidecar.incidents import terminal  # noqa: PLC0415

    page = asked.page({**_parameters(chosen), "limit": str(limit)})
    if as_json:
        click.echo(_json(page))
        return
    terminal.rows(page.incidents, sys.stdout)
    if page.total > len(page.incidents):
        click.echo(f"{len(page.incidents)} of {page.total}; --limit and filters show others", err=True)


@incidents.command(epilog=EPILOG)
@click.argument("name", metavar="ID")
@click.option("--explain", is_flag=True, help="Draw the process tree too: what was seen where, joined how.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, like /api/v1/incidents/ID.")
@click.pass_obj
@clean
def show(asked: Any, /, name: str, *, explain: bool, as_json: bool) -> None:
    """Show one incident in full: evidence, timeline and next steps. Four characters of its ID are enough."""
    from sidecar.incidents import terminal  # noqa: PLC0415

    if not re.fullmatch(r"[0-9a-f]{4,16}", name):
        raise click.BadParameter("expected four to sixteen characters out of 0-9 and a-f", param_hint="ID")
    incident = asked.incident(name)
    if as_json:
        click.echo(_json(incident))
        return
    terminal.incident(incident, sys.stdout)
    if explain:
        terminal.tree(incident, sys.stdout)


@incidents.command(epilog=EPILOG)
@filters
@click.pass_obj
@clean
def export(asked: Any, /, **chosen: Any) -> None:
    """Write every incident in full as a line of JSON."""
    for row in _all(asked, _parameters(chosen)):
        click.echo(_json(asked.incident(row.id)))


def _all(asked: Any, parameters: dict[str, str]) -> Iterator[Any]:
    offset, total = 0, 1
    while offset < total:
        page = asked.page({**parameters, "limit": "200", "offset": str(offset)})
        yield from page.incidents
        offset, total = offset + 200, page.total


def _parameters(chosen: dict[str, Any]) -> dict[str, str]:
    names = {"find": "q", "status": "state"}
    told = {names.get(name, name): value for name, value in chosen.items() if value}
    return {name: ",".join(value) if isinstance(value, tuple) else value for name, value in told.items()}


def _json(told: Any) -> str:
    import msgspec  # noqa: PLC0415

    return json.dumps(msgspec.to_builtins(told), separators=(",", ":")).replace("\x7f", "\\u007f")
