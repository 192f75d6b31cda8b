"""`check`: what would prevent a start, names that no Falco rule has, and the same result as JSON and YAML.

Covers: `cli.options`, `cli.checking.startable`, `cli.checking.falco_names`, `yamlfile.foreign`.
"""

import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from sidecar.cli.checking import startable
from sidecar.cli.main import main
from sidecar.rules.loading import SHIPPED
from sidecar.storage.opening import lock

SINK = "sinks: {stdout: {enabled: true}}\n"


def ran(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def checked(tmp_path: Path, text: str) -> Result:
    file = tmp_path / "settings.yaml"
    file.write_text(f"http: {{port: 0}}\nadmin: {{port: 0}}\n{SINK}{text}")
    return ran("check", "--config", file)


def missing_folder(tmp_path: Path) -> Path:
    return tmp_path / "nowhere" / "state.db"


def newer(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    return path


def foreign(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE bookmarks (x)")
    return path


def folder(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (missing_folder, "is not a directory; create it, or choose another file"),
        (newer, "was written by a newer version (schema 99"),
        (foreign, "is the database of another program (tables bookmarks); choose another file"),
        (folder, "is not a regular file; choose another"),
    ],
)
def test_check_and_run_refuse_the_same_state_files_with_the_remedy(tmp_path: Path, state: object, words: str) -> None:
    assert callable(state)
    result = checked(tmp_path, f"state: {{path: {state(tmp_path)}}}\n")
    started = ran("run", "--config", tmp_path / "settings.yaml")

    assert (result.exit_code, started.exit_code) == (2, 2)
    assert f"{tmp_path / 'settings.yaml'}:4: state.path: " in result.stderr
    assert words in result.stderr
    assert started.stderr.startswith("cannot start: state.path: ")
    assert words in started.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_state_file_of_another_user_is_found_before_a_start(tmp_path: Path) -> None:
    for each in (tmp_path, *tmp_path.parents):
        if not each.stat().st_mode & 0o011:  # those of pytest
            each.chmod(0o755)
    (tmp_path / "state.db.lock").touch(0o666)
    (tmp_path / "state.db.lock").chmod(0o666)
    code = (
        "import os, pathlib; from sidecar.storage.state import refuse_unusable_state, StateError; os.setuid(65534)\n"
        f"for name in ('new', 'state'):\n"
        f"    try: refuse_unusable_state(pathlib.Path('{tmp_path}', name + '.db'), 0)\n"
        f"    except StateError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()

    assert f"new.db.lock: Permission denied: user id 65534 needs to write to {tmp_path}; change its owner, or" in first
    assert second == f"{tmp_path}: user id 65534 may not write to it; change its owner, or choose another file"


def test_a_state_file_that_another_instance_uses_is_told_with_what_to_do(tmp_path: Path) -> None:
    held = lock(tmp_path / "state.db.lock")
    result = checked(tmp_path, f"state: {{path: {tmp_path}/state.db}}\n")
    os.close(held)

    assert result.exit_code == 2
    assert "another instance is using this state file; end it, or give each a file of its own" in result.stderr


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_that_is_taken_is_found_before_a_start(tmp_path: Path, taken: int) -> None:
    (tmp_path / "settings.yaml").write_text(f"{SINK}http:\n  port: {taken}\nadmin: {{port: 0}}\n")
    result = ran("check", "--config", tmp_path / "settings.yaml")

    assert result.exit_code == 2
    assert f"settings.yaml:3: http.port: 127.0.0.1:{taken} is in use; set another port, or end what" in result.stderr


def test_what_the_service_that_runs_here_has_is_no_mistake(
    tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startable, "_is_running", lambda _: True)
    (tmp_path / "settings.yaml").write_text(f"{SINK}http:\n  port: {taken}\nadmin: {{port: 0}}\n")
    result = ran("check", "--config", tmp_path / "settings.yaml")

    assert result.exit_code == 0
    assert result.stderr.endswith("http.port: in use by the service that runs here\n")


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("192.0.2.7", "http.host: '192.0.2.7': Cannot assign requested address; set an address of this machine"),
        ("no.such.invalid", "http.host: 'no.such.invalid': "),
        ("a..b", "http.host: 'a..b': "),
    ],
)
def test_a_host_that_is_not_of_this_machine_is_found_before_a_start(tmp_path: Path, host: str, words: str) -> None:
    (tmp_path / "settings.yaml").write_text(
        f"{SINK}http: {{host: {host}, port: 0, insecure: true}}\nadmin: {{port: 0}}\n"
    )
    result = ran("check", "--config", tmp_path / "settings.yaml")

    assert (result.exit_code, words in result.stderr) == (2, True), result.stderr


def test_a_file_for_incidents_in_a_folder_that_is_missing_is_found_before_a_start(tmp_path: Path) -> None:
    result = checked(tmp_path, "").exit_code, checked(tmp_path, "").stderr
    (tmp_path / "other.yaml").write_text("http: {port: 0}\nadmin: {port: 0}\nsinks: {file: {path: /nowhere/x}}\n")
    other = ran("check", "--config", tmp_path / "other.yaml")

    assert result == (0, "")
    assert "sinks.file.path: there is no directory /nowhere; create it, or mount one there" in other.stderr


RULE = """\
id: mining
name: Mining
groups:
  miner:
    rules: [Miner started]
  pool:
    tags: [rig_pool]
scope: container
cases:
  - {name: Mining, severity: high, when: miner and pool}
tests: []
"""

FALCO = """\
- macro: spawned
  condition: evt.type = execve
- rule: Miner was started
  desc: x
  condition: spawned
  output: x
  priority: NOTICE
  tags: [rig_pools]
"""


@pytest.fixture
def rule(tmp_path: Path) -> Path:
    (tmp_path / "rule.yaml").write_text(RULE)
    (tmp_path / "falco.yaml").write_text(FALCO)
    return tmp_path / "rule.yaml"


def test_names_and_tags_that_no_falco_rule_has_are_mistakes_with_line_and_nearest_name(rule: Path) -> None:
    falco = rule.with_name("falco.yaml")
    result = ran("check", rule, "--falco-rules", falco)

    assert result.exit_code == 2
    assert result.stderr.splitlines()[:2] == [
        (
            f"{rule}:5: groups.miner.rules[0]: no Falco rule in these files is named 'Miner started', did you mean "
            "'Miner was started'?"
        ),
        (
            f"{rule}:7: groups.pool.tags[0]: no Falco rule in these files has the tag 'rig_pool', did you mean "
            "'rig_pools'?"
        ),
    ]


@pytest.mark.parametrize("form", ["files", "folder", "configmap", "after"])
def test_falco_rules_come_as_files_folders_and_configmaps(rule: Path, form: str) -> None:
    folder = rule.parent / "falco"
    folder.mkdir()
    more = "- rule: Miner started\n  tags: [rig_pool]\n  enabled: true\n"
    data = {"kind": "ConfigMap", "data": {"a.yaml": FALCO, "b.yaml": more}}
    (folder / "a.yaml").write_text(yaml.safe_dump(data) if form == "configmap" else FALCO)
    (folder / "b.yaml").write_text(more)
    given: dict[str, list[str | Path]] = {
        "files": ["-f", folder / "a.yaml", "-f", folder / "b.yaml", rule],
        "folder": ["-f", folder, rule],
        "configmap": ["-f", folder / "a.yaml", rule],
        "after": [rule, "--falco-rules", folder / "a.yaml", folder / "b.yaml"],
    }

    assert ran("check", *given[form]).exit_code == 0


def test_a_falco_rule_that_is_disabled_is_a_warning(rule: Path) -> None:
    rule.with_name("falco.yaml").write_text("- {rule: Miner started, tags: [rig_pool], enabled: false}\n")
    result = ran("check", rule, "--falco-rules", rule.with_name("falco.yaml"))

    assert result.exit_code == 0
    assert "rule.yaml:5: groups.miner.rules[0]: the Falco rule 'Miner started' is disabled: it needs" in result.stderr


def test_the_shipped_rules_need_no_falco_rule_but_ours(rule: Path) -> None:
    assert ran("check", "shipped", "--falco-rules", rule.with_name("falco.yaml")).exit_code == 0


def test_a_file_that_holds_no_falco_rules_is_told(rule: Path) -> None:
    result = ran("check", rule, "--falco-rules", rule)

    assert result.exit_code == 2
    assert "contains no Falco rules" in result.stderr


def test_falco_rules_given_as_correlation_rules_are_recognised() -> None:
    result = ran("check", SHIPPED / "web_rce_rules.yaml")

    assert result.exit_code == 2
    assert "is a file of Falco rules, not a correlation rule" in result.stderr


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_check_and_test_print_the_same_result_for_machines(rule: Path, output: str) -> None:
    read: Callable[[str], Any] = json.loads if output == "json" else yaml.safe_load
    good = read(ran("check", "-o", output).stdout)
    bad = ran("check", rule, "-f", rule.with_name("falco.yaml"), "-o", output)
    tests = read(ran("test", SHIPPED / "correlation", "-o", output).stdout)

    assert (good["ok"], good["checked"][-1]["name"]) == (True, "web-application-rce")
    assert (bad.exit_code, read(bad.stdout)["ok"], len(read(bad.stdout)["mistakes"])) == (2, False, 2)
    assert (tests["failed"], tests["passed"]) == (0, len(tests["tests"]))


def test_mistakes_of_settings_and_rules_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "rule.yaml").write_text("id: x\n")
    result = checked(tmp_path, f"state: {{path: /nowhere/state.db}}\nrules: [{tmp_path / 'rule.yaml'}]\n")

    assert "state.path: " in result.stderr
    assert "rule.yaml: name: is missing" in result.stderr


STABLE = ("Drop and execute new binary in container", "Clear Log Activities", "Remove Bulk Data from Disk")
"""Names in falco_rules.yaml of Falco's rules 5.1.0 (maturity stable, enabled) that the tutorial uses."""


def test_the_falco_rules_of_the_tutorial_exist_in_falcos_stable_file_or_in_ours(tmp_path: Path) -> None:
    tutorial = (Path(__file__).parents[2] / "docs" / "write-a-rule.md").read_text()
    (tmp_path / "rule.yaml").write_text(tutorial.partition('title="crypto-mining.yaml"\n')[2].partition("```")[0])
    (tmp_path / "stable.yaml").write_text("".join(f"- rule: {name}\n  enabled: true\n" for name in STABLE))
    result = ran("check", tmp_path / "rule.yaml", "--falco-rules", tmp_path / "stable.yaml")

    assert (result.exit_code, result.stderr) == (0, "")
