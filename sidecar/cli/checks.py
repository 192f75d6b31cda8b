"""The commands for authors: `check`, `test`, `new-rule`, `doctor` and `schema`."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sidecar.cli.options import (
    EPILOG,
    RULE_PATH,
    SHIPPED,
    complain,
    config_option,
    emit,
    output_option,
    reporting_errors,
    rules_option,
)
from sidecar.errors import EXIT_PROBLEM, EXIT_WRONG, ConfigError

if TYPE_CHECKING:
    from sidecar.rules.rule import CorrelationRule


DOCTOR_EPILOG = "Exit codes: 0 nothing is wrong; 1 something is wrong; 2 wrong usage, or a file that cannot be read."


class _Report:
    """What `check` found: names that are right, mistakes, and warnings."""

    def __init__(self) -> None:
        self.checked: list[dict[str, Any]] = []
        self.mistakes: list[str] = []
        self.warnings: list[str] = []

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Continue after a file with mistakes, so that those of the others are reported too."""
        try:
            yield
        except ConfigError as error:
            self.mistakes += str(error).splitlines()

    def print(self, output: str) -> None:
        """Print everything; mistakes and warnings go to standard error in a table."""
        if output != "table":
            result = {"checked": self.checked, "mistakes": self.mistakes, "warnings": self.warnings}
            emit({"ok": not self.mistakes, **result}, output)
            return
        for each in self.checked:
            counts = ", ".join(f"{noun}: {count}" for noun, count in each.get("counts", {}).items())
            click.echo(f"{each['name']}: ok{f' ({counts})' if counts else ''}")
        complain([*self.mistakes, *self.warnings])


@click.command(epilog=EPILOG)
@click.argument("files", nargs=-1, type=RULE_PATH)
@config_option
@rules_option
@click.option(
    "--falco-rules",
    "-f",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Falco rules that are loaded, as files or folders: names and tags that none of them has are mistakes.",
)
@output_option()
@reporting_errors
def check(
    files: tuple[Path, ...],
    config: Path | None,
    rules: tuple[Path, ...],
    falco_rules: tuple[Path, ...],
    output: str,
) -> None:
    r"""Check rules, expectations and settings.

    FILES are files or folders of correlation rules or expectations; without any, the shipped rules are checked. Every
    mistake is reported with its file and line. With --config, so is what would prevent a start here: a state file,
    certificate or port that cannot be used. Examples:

    \b
      falco-correlator check my-rules/
      falco-correlator check --config /etc/falco-correlator/config.yaml
      falco-correlator check my-rule.yaml --falco-rules /etc/falco/falco_rules.yaml
    """
    report = _Report()
    paths = [*files, *rules]
    if config:
        with report.collecting():
            paths += _check_settings(config, report)
    expected, paths = _split(paths)
    falco_files, paths = _falco_files(falco_rules, paths)
    with report.collecting():
        _check_expectations(expected, report)
    if paths or not (expected or report.mistakes):
        with report.collecting():
            _check_rules(paths, falco_files, report)
    report.print(output)
    sys.exit(EXIT_WRONG if report.mistakes else 0)


def _check_settings(config: Path, report: _Report) -> list[Path]:
    """Check settings, expectations named there, and whether a start would succeed; returns the rule files."""
    from sidecar.cli.checking import startable  # noqa: PLC0415
    from sidecar.service import worker  # noqa: PLC0415
    from sidecar.yamlfile import positions  # noqa: PLC0415

    settings = worker.settings_of(config)
    with report.collecting():
        worker.expectations_of([Path(path) for path in settings.expectations])
    problems, notes = startable.problems(settings)
    report.mistakes += [positions.located(config, problem) for problem in problems]
    report.warnings += [positions.located(config, note) for note in notes]
    if not report.mistakes:
        report.checked.append({"kind": "settings", "name": str(config)})
    return [Path(path) for path in settings.rules]


def _check_expectations(paths: list[Path], report: _Report) -> None:
    from sidecar.expectations import loading  # noqa: PLC0415

    report.checked += [{"kind": "expectation", "name": entry.id, "file": entry.where} for entry in loading.load(paths)]


def _check_rules(paths: list[Path], falco_files: list[Path], report: _Report) -> None:
    from sidecar.cli.checking import falco_names  # noqa: PLC0415
    from sidecar.cli.testing import rule_tests  # noqa: PLC0415

    rules = _rules(paths)
    if falco_files:
        report.mistakes += falco_names.unknown(rules, falco_files)
        report.warnings += falco_names.disabled(rules, falco_files)
    for rule in rules:
        tests = len(rule.written.tests)
        counts = {"groups": len(rule.groups), "cases": len(rule.cases), "tests": tests}
        report.checked.append({"kind": "rule", "name": rule.id, "file": rule.where, "counts": counts})
        if not tests:
            report.warnings.append(f"{rule.id}: has no tests; write some under `tests:`")
        for case in rule_tests.untested(rule) if tests else ():
            report.warnings.append(f"{rule.id}: no test expects the case {case!r}")


@click.command(epilog=EPILOG)
@click.argument("paths", nargs=-1, type=RULE_PATH)
@output_option()
@reporting_errors
def test(paths: tuple[Path, ...], output: str) -> None:
    """Run the tests inside files of rules or expectations.

    PATHS are files or folders; the default is what ships with this version.
    """
    from sidecar.cli.testing import expectation_tests, rule_tests  # noqa: PLC0415
    from sidecar.service.worker import SHIPPED_EXPECTATIONS  # noqa: PLC0415

    expected, rules = _split(paths)
    if not paths or Path(SHIPPED) in paths:
        expected.append(SHIPPED_EXPECTATIONS)
    told: list[dict[str, Any]] = []
    for result in rule_tests.run(_rules(rules)) if rules or not paths else ():
        told.append({"name": f"{result.rule.id}: {result.test.name}", "passed": result.passed, **_failure(result)})
        if output == "table":
            click.echo("\n".join(rule_tests.report(result)))
    for story in expectation_tests.run(expected, _rules([])):
        told.append({"name": f"{story.product}: {story.story}", "passed": not story.why, "why": [story.why]})
        if output == "table":
            click.echo(str(story))
    failed = sum(not each["passed"] for each in told)
    if output == "table":
        click.echo(f"{len(told) - failed} passed, {failed} failed")
    else:
        emit({"passed": len(told) - failed, "failed": failed, "tests": told}, output)
    sys.exit(EXIT_PROBLEM if failed else 0)


def _failure(result: Any) -> dict[str, Any]:
    if result.passed:
        return {}
    return {"expected": result.expected, "got": result.got, "why": result.why, "where": result.place}


@click.command("new-rule", epilog=EPILOG)
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
@reporting_errors
def new_rule(
    name: str, given: tuple[tuple[str, str], ...], recorded: Path | None, scope: str, output: Path | None
) -> None:
    """Write a starting point for a correlation rule.

    It is commented, has tests inside, and is ready for `check` and `test`. NAME is its id, for example crypto-mining.
    The JSON Schema for editors is written beside it.
    """
    from sidecar.cli import new_rule  # noqa: PLC0415

    file = output or Path(f"{name}.yaml")
    new_rule.write(file, name, given, recorded, scope)
    click.echo(f"wrote {file}; now: falco-correlator check {file}; falco-correlator test {file}")


@click.command(epilog=DOCTOR_EPILOG)
@click.argument("sources", nargs=-1)
@click.option(
    "--mode",
    type=click.Choice(["http", "grpc", "tap"]),
    help="How alerts come to the correlator; default: as the file is configured.",
)
@output_option()
@reporting_errors
def doctor(sources: tuple[str, ...], mode: Any, output: str) -> None:
    r"""Say what Falco and the correlator lack for correlation.

    SOURCES are files and addresses: falco.yaml, Helm values of the Falco chart or of ours (also of an umbrella chart),
    ConfigMaps from kubectl, Falco rules, `-` for standard input, Falco's web server, and the administration port of a
    running correlator. Without any, it looks for /etc/falco/falco.yaml and for both programs on this machine.

    \b
      falco-correlator doctor falco.yaml
      falco-correlator doctor values.yaml http://127.0.0.1:8765 http://127.0.0.1:2812
      kubectl get configmap -n falco -o yaml | falco-correlator doctor -
    """
    from sidecar.cli.checking import report  # noqa: PLC0415

    sys.exit(EXIT_PROBLEM if report.run(sources, mode, output) else 0)


@click.command(epilog=EPILOG)
@click.argument("kind", type=click.Choice(["rule", "settings", "programs", "expectation"]))
@reporting_errors
def schema(kind: str) -> None:
    """Print the JSON Schema of a file that you write.

    KIND is a rule file, the settings file, the table of programs, or a file of expectations.
    """
    from sidecar.cli import json_schema  # noqa: PLC0415

    emit(json_schema.for_kind(kind), "json")


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


def _falco_files(given: Iterable[Path], paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """The files of Falco rules, and the others: after --falco-rules, further files may be Falco's too."""
    from sidecar.cli.checking import falco_names  # noqa: PLC0415

    found = falco_names.files(given)
    if not found:
        return [], paths
    others = [path for path in paths if path.is_file() and falco_names.is_falco_file(path)]
    return [*found, *others], [path for path in paths if path not in others]
