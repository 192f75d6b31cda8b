"""The command `falco-correlator`. Modules are imported where a command needs them, so that `--version` is instant."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sidecar import __version__
from sidecar.cli import checks
from sidecar.cli.options import (
    EPILOG,
    PORT,
    config_option,
    emit,
    expectations_option,
    output_option,
    reporting_errors,
    rules_option,
)
from sidecar.errors import EXIT_PROBLEM, EXIT_WRONG, ConfigError

if TYPE_CHECKING:
    import socket

    from sidecar.rules.rule import CorrelationRule
    from sidecar.settings.schema import Settings

__all__ = ["EPILOG", "main"]

PYTHON = sys.version.partition(" ")[0]

VERSION = f"falco-correlator {__version__} (Python {PYTHON})"

DEFAULT_CONFIG = Path("/etc/falco-correlator/config.yaml")
"""The settings of `run` if neither --config nor FALCO_CORRELATOR_CONFIG names a file."""


class _LazyGroup(click.Group):
    """A group that imports the command `incidents` only when it is used or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "incidents"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "incidents":
            return super().get_command(ctx, cmd_name)
        from sidecar.cli.incidents import incidents  # noqa: PLC0415

        return incidents


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(__version__, "--version", "-V", message=VERSION)
def main() -> None:
    """Correlate single Falco alerts into the few incidents that matter."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # started with `>&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123 - until the process ends


@main.command(epilog=EPILOG)
@config_option
@click.option("--print-config", is_flag=True, help="Print the settings in effect, with secrets hidden, and exit.")
@reporting_errors
def run(config: Path | None, *, print_config: bool) -> None:
    """Run the service.

    It receives alerts from Falco and forwards incidents. Without --config it reads /etc/falco-correlator/config.yaml,
    if there is one. SIGHUP makes it read its rules and settings again; it also notices changed files by itself.
    """
    from sidecar.service import sockets, worker  # noqa: PLC0415

    if config is None and DEFAULT_CONFIG.is_file():
        config = DEFAULT_CONFIG
        click.echo(f"settings: {config}", err=True)
    if print_config:
        _print_config(config)
        return
    settings = worker.settings_of(config)
    rules = _rules([Path(path) for path in settings.rules])
    expected = worker.expectations_of([Path(path) for path in settings.expectations])
    listening = sockets.inherited() or _listening_sockets(settings)
    if settings.supervisor and sockets.INHERITED not in os.environ:
        sockets.hand_over(listening, [str(config)] if config else [])
    worker.serve(worker.Loaded(settings, rules, expected), listening, config)


@main.command(epilog=EPILOG)
@click.option("--once", is_flag=True, help="Exit after the recording instead of continuing to serve.")
@click.option(
    "--port", type=PORT, default=2802, show_default=True, help="Port for Falco's alerts on loopback; 0 chooses one."
)
@click.option(
    "--admin-port",
    type=PORT,
    default=2812,
    show_default=True,
    help="Port of the incident pages, /healthz and /metrics; 0 chooses one.",
)
@reporting_errors
def demo(port: int, admin_port: int, *, once: bool) -> None:
    """Play a recorded attack to a service on loopback."""
    import asyncio  # noqa: PLC0415

    from sidecar.cli import demo as demo_module  # noqa: PLC0415
    from sidecar.settings.schema import Admin, Settings  # noqa: PLC0415
    from sidecar.settings.sources import HttpSourceSettings  # noqa: PLC0415

    settings = Settings(http=HttpSourceSettings(port=port), admin=Admin(port=admin_port))
    try:
        critical = asyncio.run(demo_module.run(settings, _rules([]), once=once))
    except OSError as error:
        click.echo(f"cannot start: {error.strerror or error}; --port 0 --admin-port 0 choose free ones", err=True)
        sys.exit(EXIT_WRONG)
    else:
        sys.exit(0 if critical == 1 else EXIT_PROBLEM)


@main.command(epilog=EPILOG)
@click.argument("files", nargs=-1, required=True)
@config_option
@rules_option
@expectations_option
@output_option("text", "jsonl", help="Also text: each incident in full; jsonl: each notification as it is sent.")
@click.option(
    "--explain", is_flag=True, help="Draw the process tree of each incident, with the detections on each process."
)
@reporting_errors
def replay(
    files: tuple[str, ...],
    config: Path | None,
    rules: tuple[Path, ...],
    expectations: tuple[Path, ...],
    output: str,
    *,
    explain: bool,
) -> None:
    r"""Correlate recorded alerts of Falco.

    FILES are files, folders or pipes, also gzipped; `-` is standard input. It reads JSON lines as Falco's file_output
    writes them, the logs of Falco's container (CRI, Docker, kubectl) and of journald, and JSON in arrays or over
    several lines. Of the settings only `programs` counts. Nothing is sent anywhere. Examples:

    \b
      falco-correlator replay alerts.jsonl
      falco-correlator replay --explain --rules my-rule.yaml alerts.jsonl
      kubectl logs -n falco ds/falco -c falco | falco-correlator replay -
    """
    if explain and output != "table":
        raise click.UsageError("--explain and --output cannot be combined: --explain draws text")
    from sidecar.cli import replay  # noqa: PLC0415
    from sidecar.correlation.pipeline import Pipeline  # noqa: PLC0415
    from sidecar.meaning import tables  # noqa: PLC0415
    from sidecar.service import worker  # noqa: PLC0415
    from sidecar.settings import loading  # noqa: PLC0415

    if config is not None:
        settings, problems = loading.read(config, worker.environment())
        if wrong := [problem for problem in problems if problem.startswith("programs")]:
            raise ConfigError(str(config), wrong)
        tables.extend(settings.programs)
    expected = worker.expectations_of(list(expectations))
    pipeline = Pipeline(_rules(list(rules)), timer=lambda: 0.0, expectations=expected)
    if not replay.run(pipeline, files, "explain" if explain else output):
        sys.exit(EXIT_PROBLEM)


@main.command(epilog=EPILOG)
@output_option()
def version(output: str) -> None:
    """Print the version."""
    if output == "table":
        click.echo(VERSION)
    else:
        emit({"version": __version__, "python": PYTHON}, output)


@main.command("help", epilog=EPILOG)
@click.argument("command", nargs=-1)
@click.pass_context
def help_(context: click.Context, command: tuple[str, ...]) -> None:
    """Explain a command, as its --help does."""
    main(args=[*command, "--help"], prog_name=context.find_root().info_name, standalone_mode=True)


@main.command(epilog=EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    r"""Print the completion script of a shell.

    \b
    bash:  falco-correlator completion bash > /etc/bash_completion.d/falco-correlator
    zsh:   falco-correlator completion zsh > "${fpath[1]}/_falco-correlator"
    fish:  falco-correlator completion fish > ~/.config/fish/completions/falco-correlator.fish
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(main, {}, "falco-correlator", "_FALCO_CORRELATOR_COMPLETE").source())


for _command in (checks.check, checks.test, checks.new_rule, checks.doctor, checks.schema):
    main.add_command(_command)


def _print_config(config: Path | None) -> None:
    """Print the settings in effect; problems with them are warnings."""
    from sidecar.service import worker  # noqa: PLC0415
    from sidecar.settings import loading  # noqa: PLC0415
    from sidecar.settings.display import to_yaml  # noqa: PLC0415

    settings, problems = loading.read(config, worker.environment())
    click.echo(to_yaml(settings, hide=True), nl=False)
    for problem in problems:
        click.echo(f"warning: {problem}", err=True)


def _listening_sockets(settings: "Settings") -> "dict[str, socket.socket]":
    """The sockets of all ports, open once it is certain that nothing else prevents a start: Falco would wait there."""
    from sidecar.service import sockets, worker  # noqa: PLC0415

    if problems := list(worker.start_problems(settings)):
        raise ConfigError("cannot start", problems)
    try:
        return sockets.opened(settings.listening_addresses())
    except OSError as error:
        raise ConfigError("cannot start", [error.strerror or str(error)]) from None


def _rules(paths: list[Path]) -> "list[CorrelationRule]":
    from sidecar.service import worker  # noqa: PLC0415

    return worker.rules_of(paths)
