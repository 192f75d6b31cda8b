"""The command `falco-correlator`. Modules are imported where a command needs them, so that `--version` is instant."""

import json
import os
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from sidecar import __version__
from sidecar.errors import EXIT_PROBLEM, EXIT_WRONG, ConfigError

if TYPE_CHECKING:
    import socket

    from sidecar.rules.rule import CorrelationRule
    from sidecar.settings.schema import Settings

EPILOG = (
    "Exit codes: 0 success; 1 a problem was found (a test failed); 2 wrong usage, file or setting, or a start that "
    "cannot succeed (a port is in use)."
)

VERSION = f"falco-correlator {__version__} (Python {sys.version.partition(' ')[0]})"

DEFAULT_CONFIG = Path("/etc/falco-correlator/config.yaml")
"""The settings of `run` if neither --config nor FALCO_CORRELATOR_CONFIG names a file."""

P = ParamSpec("P")

config_option = click.option(
    "--config",
    "-c",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="FALCO_CORRELATOR_CONFIG",
    help="Settings file (YAML). Every setting is also an environment variable.",
)


class _RulePath(click.Path):
    """A file or folder of correlation rules, or the word `shipped`, as in the setting `rules`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return Path(str(value)) if str(value) in (SHIPPED, NONE) else super().convert(value, param, ctx)


SHIPPED, NONE = "shipped", "none"
RULE_PATH = _RulePath(exists=True, path_type=Path)

rules_option = click.option(
    "--rules",
    "-r",
    multiple=True,
    type=RULE_PATH,
    help="Correlation rule file or folder, or `shipped` for those of this version (the default); may be repeated.",
)
expectations_option = click.option(
    "--expectations",
    "-e",
    multiple=True,
    type=RULE_PATH,
    help="File or folder of what is normal where, `shipped` (the default), or `none`; may be repeated.",
)
PORT = click.IntRange(0, 65535)


def _reporting_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Report an error in a file without a traceback."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ConfigError as error:
            click.echo(str(error), err=True)
            sys.exit(EXIT_WRONG)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return wrapped


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


@main.command(epilog=EPILOG)
@config_option
@click.option("--print-config", is_flag=True, help="Print the settings in effect, with secrets hidden, and exit.")
@_reporting_errors
def run(config: Path | None, *, print_config: bool) -> None:
    """Run the service: receive alerts from Falco and forward incidents."""
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
    worker.refuse_unusable_state(settings)
    try:
        listening = sockets.inherited() or _listening_sockets(settings)
    except OSError as error:
        click.echo(f"cannot listen: {error.strerror or error}", err=True)
        sys.exit(EXIT_WRONG)
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
@_reporting_errors
def demo(port: int, admin_port: int, *, once: bool) -> None:
    """Start the service on loopback and play a recorded attack against it."""
    import asyncio  # noqa: PLC0415

    from sidecar.cli import demo as demo_module  # noqa: PLC0415
    from sidecar.settings.schema import Admin, Settings  # noqa: PLC0415
    from sidecar.settings.sources import HttpSourceSettings  # noqa: PLC0415

    settings = Settings(http=HttpSourceSettings(port=port), admin=Admin(port=admin_port))
    try:
        critical = asyncio.run(demo_module.run(settings, _rules([]), once=once))
    except OSError as error:
        click.echo(f"cannot listen: {error.strerror or error}; --port 0 --admin-port 0 chooses free ones", err=True)
        sys.exit(EXIT_PROBLEM)
    else:
        sys.exit(0 if critical == 1 else EXIT_PROBLEM)


@main.command(epilog=EPILOG)
@click.argument("files", nargs=-1, required=True)
@rules_option
@expectations_option
@click.option(
    "--output",
    "-o",
    type=click.Choice(["table", "text", "jsonl"]),
    help="table (default): one row per incident; text: each in full; jsonl: one line per notification, as sent",
)
@click.option(
    "--explain", is_flag=True, help="Draw the process tree of each incident, with the detections on each process."
)
@_reporting_errors
def replay(
    files: tuple[str, ...],
    rules: tuple[Path, ...],
    expectations: tuple[Path, ...],
    output: str | None,
    *,
    explain: bool,
) -> None:
    """Correlate recorded alerts of Falco: FILES, folders or pipes, also gzipped; `-` is standard input.

    It reads JSON lines as Falco's file_output writes them, the logs of Falco's container (CRI, Docker, kubectl) and
    of journald, and JSON in arrays or over several lines.
    """
    if explain and output:
        raise click.UsageError("--explain and --output cannot be combined: --explain draws text")
    from sidecar.cli import replay  # noqa: PLC0415
    from sidecar.correlation.pipeline import Pipeline  # noqa: PLC0415
    from sidecar.service import worker  # noqa: PLC0415

    expected = worker.expectations_of(list(expectations))
    pipeline = Pipeline(_rules(list(rules)), timer=lambda: 0.0, expectations=expected)
    if not replay.run(pipeline, files, "explain" if explain else output or "table"):
        sys.exit(EXIT_PROBLEM)


@main.command(epilog=EPILOG)
@click.argument("files", nargs=-1, type=RULE_PATH)
@config_option
@rules_option
@_reporting_errors
def check(files: tuple[Path, ...], config: Path | None, rules: tuple[Path, ...]) -> None:
    """Check FILES or folders of rules or expectations, and with --config the settings.

    Every mistake is reported with its file and line.
    """
    from sidecar.cli.testing import rule_tests  # noqa: PLC0415
    from sidecar.expectations import loading  # noqa: PLC0415
    from sidecar.service import worker  # noqa: PLC0415

    paths = [*files, *rules]
    if config:
        settings = worker.settings_of(config)
        paths += [Path(path) for path in settings.rules]
        click.echo(f"{config}: ok")
        worker.expectations_of([Path(path) for path in settings.expectations])
    expected, paths = _split(paths)
    for entry in loading.load(expected):
        click.echo(f"{entry.id}: ok")
    for rule in _rules(paths) if paths or not expected else ():
        tests = len(rule.written.tests)
        click.echo(f"{rule.id}: ok (groups: {len(rule.groups)}, cases: {len(rule.cases)}, tests: {tests})")
        if not tests:
            click.echo(f"{rule.id}: has no tests; write some under `tests:`", err=True)
        for case in rule_tests.untested(rule) if tests else ():
            click.echo(f"{rule.id}: no test expects the case {case!r}", err=True)


@main.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, type=RULE_PATH)
@_reporting_errors
def test(paths: tuple[Path, ...]) -> None:
    """Run the tests inside files of rules or expectations.

    PATHS are files or folders; the default is what ships with this version.
    """
    from sidecar.cli.testing import expectation_tests, rule_tests  # noqa: PLC0415
    from sidecar.service.worker import SHIPPED_EXPECTATIONS  # noqa: PLC0415

    expected, rules = _split(paths)
    if not paths or Path(SHIPPED) in paths:
        expected.append(SHIPPED_EXPECTATIONS)
    failed = passed = 0
    for result in rule_tests.run(_rules(rules)) if rules or not paths else ():
        passed += result.passed
        failed += not result.passed
        click.echo("\n".join(rule_tests.report(result)))
    for told in expectation_tests.run(expected, _rules([])):
        passed += not told.why
        failed += bool(told.why)
        click.echo(str(told))
    click.echo(f"{passed} passed, {failed} failed")
    sys.exit(EXIT_PROBLEM if failed else 0)


@main.command("new-rule", epilog=EPILOG)
@click.argument("name")
@click.option(
    "--group",
    "-g",
    "given",
    type=(str, str),
    multiple=True,
    metavar="GROUP RULE",
    help="A Falco rule (or `tag:` and a tag) that counts for a group; may be repeated, also for the same group.",
)
@click.option(
    "--from",
    "recorded",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Propose groups for the Falco rules seen in recorded alerts (JSON lines, .gz too).",
)
@click.option("--scope", type=click.Choice(["session", "container"]), default="session", show_default=True)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="The file to write. Default: NAME.yaml here.")
@_reporting_errors
def new_rule(
    name: str, given: tuple[tuple[str, str], ...], recorded: Path | None, scope: str, output: Path | None
) -> None:
    """Write a starting point for a correlation rule: commented, with tests inside, ready for `check` and `test`.

    NAME is its id, for example crypto-mining. The JSON Schema for editors is written beside it.
    """
    from sidecar.cli import new_rule  # noqa: PLC0415

    file = output or Path(f"{name}.yaml")
    new_rule.write(file, name, given, recorded, scope)
    click.echo(f"wrote {file}; now: falco-correlator check {file}; falco-correlator test {file}")


@main.command(epilog=EPILOG)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--mode", type=click.Choice(["http", "grpc"]), help="How alerts are sent here; default: as the file is configured."
)
@_reporting_errors
def doctor(file: Path, mode: Any) -> None:
    """Report what a falco.yaml (or a ConfigMap with one) lacks for correlation, with the lines to add."""
    from sidecar.cli.doctor import examine, plugin_state  # noqa: PLC0415

    chosen, findings = examine(file, mode)
    for finding in sorted(findings, reverse=True):
        click.echo(f"{'WRONG ' if finding.grave else 'advice'} {finding.what}; add to falco.yaml:")
        click.echo("\n".join(f"         {line}" for line in finding.lines.splitlines()))
    grave = sum(finding.grave for finding in findings)
    click.echo(f"note   {plugin_state(file)}")
    click.echo(f"{file}, mode {chosen}: {grave} wrong, {len(findings) - grave} to consider")
    sys.exit(EXIT_PROBLEM if grave else 0)


@main.command(epilog=EPILOG)
@click.argument("kind", type=click.Choice(["rule", "settings", "programs", "expectation"]))
@_reporting_errors
def schema(kind: str) -> None:
    """Print the JSON Schema of a rule file, the settings file, the table of programs or expectations."""
    from sidecar.cli import json_schema  # noqa: PLC0415

    click.echo(json.dumps(json_schema.for_kind(kind), indent=2))


@main.command(epilog=EPILOG)
def version() -> None:
    """Print the version."""
    click.echo(VERSION)


@main.command("help", epilog=EPILOG)
@click.argument("command", nargs=-1)
@click.pass_context
def help_(context: click.Context, command: tuple[str, ...]) -> None:
    """Explain a COMMAND, as its --help does."""
    main(args=[*command, "--help"], prog_name=context.find_root().info_name, standalone_mode=True)


@main.command(epilog=EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a SHELL.

    For bash: falco-correlator completion bash > /etc/bash_completion.d/falco-correlator
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(main, {}, "falco-correlator", "_FALCO_CORRELATOR_COMPLETE").source())


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
    from sidecar.service import sockets  # noqa: PLC0415

    for sink in settings.sinks.configured().values():
        sink.check_startable()
    return sockets.opened(settings.listening_addresses())


def _rules(paths: list[Path]) -> "list[CorrelationRule]":
    from sidecar.service import worker  # noqa: PLC0415

    return worker.rules_of(paths)


def _split(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The files of expectations among these files and folders, and all others."""
    from sidecar.expectations.loading import is_expectation_file  # noqa: PLC0415
    from sidecar.rules.loading import yaml_files  # noqa: PLC0415

    files = [file for path in paths for file in (yaml_files([path]) if path.is_dir() else [path])]
    expected = [file for file in files if is_expectation_file(file)]
    return expected, [file for file in files if file not in expected]
