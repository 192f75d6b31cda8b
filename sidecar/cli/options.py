"""What the commands share: options, exit codes, errors without tracebacks, and how results are printed."""

import os
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import click

from sidecar.errors import EXIT_WRONG, ConfigError

EPILOG = (
    "Exit codes: 0 success; 1 a problem was found (a test failed); 2 wrong usage, file or setting, or a start that "
    "cannot succeed (a port is in use)."
)

SHIPPED, NONE = "shipped", "none"

P = ParamSpec("P")


class _RulePath(click.Path):
    """A file or folder of correlation rules, or the word `shipped` or `shipped/ID`, as in the setting `rules`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        is_word = str(value) == NONE or str(value).partition("/")[0] == SHIPPED
        return Path(str(value)) if is_word and not Path(str(value)).exists() else super().convert(value, param, ctx)


RULE_PATH = _RulePath(exists=True, path_type=Path)
PORT = click.IntRange(0, 65535)

config_option = click.option(
    "--config",
    "-c",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="FALCO_CORRELATOR_CONFIG",
    help="Settings file (YAML). Every setting is also an environment variable.",
)
rules_option = click.option(
    "--rules",
    "-r",
    multiple=True,
    type=RULE_PATH,
    help="Correlation rule file or folder, `shipped` for those of this version (the default), or `shipped/ID` for one; "
    "may be repeated.",
)
expectations_option = click.option(
    "--expectations",
    "-e",
    multiple=True,
    type=RULE_PATH,
    help="File or folder of what is normal where, `shipped` (the default), or `none`; may be repeated.",
)


def output_option(*others: str, help: str = "") -> Callable[[Any], Any]:  # noqa: A002 - click's word
    """The option --output with `table`, `json` and `yaml`, which every command with a result has, and with `others`."""
    return click.option(
        "--output",
        "-o",
        type=click.Choice(["table", "json", "yaml", *others]),
        default="table",
        show_default=True,
        help=f"How the result is printed. {help}".rstrip(),
    )


def reporting_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Report an error in a file without a traceback, and end quietly when nobody reads the output."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except ConfigError as error:
            complain(str(error).splitlines())
            sys.exit(EXIT_WRONG)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return wrapped


def complain(lines: Iterable[str]) -> None:
    """Print lines on standard error. They may quote a file, so nothing in them can steer a terminal."""
    from sidecar.text import escape  # noqa: PLC0415 - `--version` is instant without

    for line in lines:
        click.echo(escape.terminal(line), err=True)


def emit(value: Any, output: str) -> None:
    """Print plain data or a struct as `json` or `yaml`, in ASCII, so that nothing in it can steer a terminal."""
    click.echo(formatted(value, output).rstrip("\n"))


def formatted(value: Any, output: str) -> str:
    """Plain data or a struct as `json` or `yaml`."""
    import msgspec  # noqa: PLC0415 - `--version` is instant without

    from sidecar.text import escape  # noqa: PLC0415 - as above

    plain = msgspec.to_builtins(value, enc_hook=str)
    if output == "json":
        return escape.ascii_json(plain, indent=2)
    import yaml  # noqa: PLC0415 - as above

    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=False, width=120)
