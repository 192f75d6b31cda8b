"""Wrong command lines, settings and files: an answer in words and the right code, never a traceback."""

import contextlib
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import DATA
from support import wrong_input

from sidecar.cli.main import main
from sidecar.rules.loading import SHIPPED

pytestmark = pytest.mark.slow

TIMES = int(os.environ.get("WRONG_INPUTS", "200"))
"""How many of each kind are tried."""

RULE = (SHIPPED / "correlation" / "web_application_rce.yaml").read_text()
EXPECTATION = next(iter(sorted((SHIPPED / "expected").glob("*.yaml")))).read_text()
PROGRAMS = "sinks: {stdout: {enabled: true}}\nprograms:\n  services: [acme]\n  boundaries: [/opt/acme/bin/x]\n"
ALERTS = b"".join((DATA / "stock_alerts.jsonl").read_bytes().splitlines(keepends=True)[:4]).decode()
FALCO = "json_output: true\nrule_matching: all\nhttp_output: {enabled: true, url: 'http://127.0.0.1:2802/'}\n"
VALUES = f"falco:\n  falcosidekick: {{enabled: true}}\n  falco:\n    {FALCO.replace(chr(10), chr(10) + '    ')}\n"
CONFIGMAP = f"kind: ConfigMap\ndata:\n  falco.yaml: |\n    {FALCO.replace(chr(10), chr(10) + '    ')}\n"
FALCO_RULES = "- macro: m\n  condition: a\n- rule: R\n  tags: [x]\n  enabled: false\n"


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), input=b"")


def answered(result: Result, what: object) -> None:
    """No traceback, a known code, and with 2 a reason in words on standard error."""
    assert result.exception is None or isinstance(result.exception, SystemExit), (what, result.exc_info)
    assert result.exit_code in (0, 1, 2, 3), what
    assert "Traceback" not in result.output, what
    if result.exit_code in (2, 3):
        assert re.search(r"[a-z]{2,}", result.stderr), what
        own = "" if result.stderr.startswith("Usage:") else result.stderr  # click repeats what was typed
        assert all(line.expandtabs().isprintable() for line in own.split("\n")), (what, result.stderr)


def test_a_wrong_command_line_is_answered(tmp_path: Path) -> None:
    chance = random.Random(18)
    for _ in range(TIMES):
        arguments = wrong_input.command_line(chance)
        with contextlib.chdir(tmp_path):
            answered(ran(*arguments), arguments)


def test_wrong_settings_are_answered_with_the_setting_and_a_remedy(tmp_path: Path) -> None:
    chance = random.Random(18)
    file = tmp_path / "settings.yaml"
    for _ in range(TIMES):
        text = wrong_input.settings_text(chance)
        file.write_text(text, "utf-8", "surrogatepass")
        result = ran("check", "--config", str(file))

        answered(result, text)
        for line in result.stderr.splitlines() if result.exit_code else ():
            assert re.match(r"\S+settings\.yaml(:\d+)?: |/\S+: ", line), (text, line)
            assert len(line) > 30, (text, line)


@pytest.mark.parametrize(
    ("command", "good"),
    [
        (("check",), (RULE, EXPECTATION)),
        (("test",), (EXPECTATION[:400], RULE[:3000])),
        (("check", "--config"), (PROGRAMS,)),
        (("replay",), (ALERTS, f"[{ALERTS}]")),
        (("doctor",), (FALCO, VALUES, CONFIGMAP, FALCO_RULES, PROGRAMS)),
        (("check", "shipped", "--falco-rules"), (FALCO_RULES, CONFIGMAP)),
        (("new-rule", "x", "--from"), (ALERTS,)),
        (("incidents", "--state"), (FALCO,)),
    ],
    ids=lambda each: " ".join(each[:3]) if isinstance(each, tuple) and len(each[0]) < 20 else None,
)
def test_a_wrong_file_is_answered(tmp_path: Path, command: tuple[str, ...], good: tuple[str, ...]) -> None:
    chance = random.Random(18)
    file = tmp_path / "wrong.yaml"
    for _ in range(TIMES // 5):
        data = wrong_input.any_text(chance, *good)
        file.write_bytes(data)
        with contextlib.chdir(tmp_path):
            answered(ran(*command, str(file)), (command, data))


@pytest.mark.parametrize(
    "command", ["version", f"replay {SHIPPED}/recordings/demo.jsonl", "check", "incidents --url http://127.0.0.1:9"]
)
def test_without_an_output_a_command_ends_with_the_same_code(command: str) -> None:
    shell = f"{Path(sys.executable).parent}/falco-correlator {command}"
    closed, open_ = (
        subprocess.run(["sh", "-c", shell + more], capture_output=True, text=True, check=False) for more in (" >&-", "")
    )

    assert (closed.returncode, "Traceback" in closed.stderr) == (open_.returncode, False)


@pytest.mark.parametrize("columns", ["1", "40", "0", "x"])
def test_a_narrow_terminal_without_colours_and_locale_is_enough(columns: str) -> None:
    result = CliRunner().invoke(
        main,
        ["replay", "-o", "text", str(SHIPPED / "recordings" / "demo.jsonl")],
        env={"COLUMNS": columns, "NO_COLOR": "1", "LANG": "C", "LC_ALL": "C", "TERM": "dumb"},
    )

    assert (result.exit_code, "\x1b" in result.output) == (0, False)


def test_it_tries_at_least_as_many_as_were_asked_for() -> None:
    assert TIMES >= 200
    assert sys.getrecursionlimit() <= 10_000, "deep input is refused, not survived by a larger stack"
