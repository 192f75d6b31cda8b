"""`falco-correlator incidents` as a person types it: lists, one in full, an export; from a service and from a file.

Covers: `cli.incident_client`, `incidents.lookup`.
"""

import json
import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from conftest import Running
from msgspec.structs import replace
from support.site_with_incidents import DEMO, HOSTILE, notifications, running

from sidecar.cli.incident_client import UnavailableError
from sidecar.cli.main import main
from sidecar.incidents.terminal import age
from sidecar.incidents.view import Page
from sidecar.model import Notification
from sidecar.storage.archive import EVIDENCE_TABLES, TABLES, Archive
from sidecar.storage.state import State

NOW = 1_795_500_000 * 10**9
"""Shortly after the recordings, for ages."""

GOLDEN = Path(__file__).parents[1] / "golden" / "terminal"


def ran(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(main, ["incidents", *map(str, arguments)], env={"COLUMNS": "", **environment})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state file with the incidents of the demo, of a second severity, and of an attacker."""
    path = tmp_path_factory.mktemp("state") / "state.db"
    kept = State(path, keep=3600)
    for note in notifications():
        if note.incident in (DEMO, HOSTILE) or note.incident.startswith("0001"):
            kept.archive.put(replace(note, closes=1), step=True)
    kept.close()
    return path


def golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text(), "look at the difference; GOLDEN=write takes it"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("list.txt", ["list"]),
        ("list_filtered.txt", ["list", "-s", "critical", "--find", "shop/web", "--sort", "severity"]),
        ("show.txt", ["show", DEMO[:4]]),
        ("show_explain.txt", ["show", "--explain", DEMO]),
        ("show_hostile.txt", ["show", HOSTILE]),
        ("nothing.txt", ["list", "--find", "no such place"]),
    ],
)
def test_what_a_terminal_shows_is_as_it_was_and_fits_80_columns(
    file: Path, name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time_ns", lambda: NOW)
    result = ran("--state", file, *arguments)

    assert result.exit_code == 0
    golden(name, result.stdout)
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert all(line.isprintable() for line in result.stdout.splitlines())


def test_without_a_command_it_lists(file: Path) -> None:
    assert ran("--state", file).stdout == ran("--state", file, "list").stdout


def test_json_is_what_the_api_gives(file: Path) -> None:
    page = json.loads(ran("--state", file, "list", "--json").stdout)
    incident = json.loads(ran("--state", file, "show", DEMO, "--json").stdout)

    assert page["total"] == 6
    assert (incident["id"], incident["severity"], len(incident["triage"])) == (DEMO, "critical", 9)


def test_json_and_yaml_hold_the_same_for_every_command_that_has_a_result(file: Path) -> None:
    for arguments in (["list"], ["show", DEMO]):
        as_yaml = yaml.safe_load(ran("--state", file, *arguments, "-o", "yaml").stdout)
        assert as_yaml == json.loads(ran("--state", file, *arguments, "-o", "json").stdout)
        assert as_yaml == json.loads(ran("--state", file, *arguments, "--json").stdout)


def test_wide_has_everything_of_an_incident_on_one_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: NOW)
    header, *rows = ran("--state", file, "list", "-o", "wide", "--find", "shop/web").stdout.splitlines()

    assert header.split() == [
        "INCIDENT",
        "SEVERITY",
        "STATE",
        "AGE",
        "LAST",
        "NAMESPACE",
        "POD",
        "CONTAINER",
        "HOST",
        "CASE",
    ]
    assert rows == [
        (
            f"{DEMO}  critical  closed  176m  2026-11-24T03:03:06.502593923Z  shop       web-7d9f8b6c5-x2x4q  app"
            "        node-1  Full Web Application Compromise"
        )
    ]


def interrupted_after(monkeypatch: pytest.MonkeyPatch, *pauses: Callable[[], object]) -> None:
    """Let these happen in the pauses of --watch, and then Ctrl-C."""
    left = iter(pauses)

    def pause() -> None:
        happening = next(left, None)
        if happening is None:
            raise KeyboardInterrupt
        happening()

    monkeypatch.setattr("sidecar.cli.incidents.pause", pause)


@pytest.mark.parametrize("output", ["table", "wide", "json", "yaml"])
def test_watch_prints_what_is_new_or_changed_until_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    first, second = [note for note in notifications() if note.incident == DEMO]
    path = tmp_path / "state.db"
    kept = State(path, keep=3600)
    kept.archive.put(first, step=True)
    interrupted_after(monkeypatch, lambda: None, lambda: kept.archive.put(second, step=True))
    done = ran("--state", path, "list", "--watch", "-o", output)
    kept.close()

    assert done.exit_code == 0
    assert done.stdout.count(DEMO[:8]) == 2
    assert done.stdout.index(first.case) < done.stdout.index(second.case)
    assert done.stdout.lower().count("severity  ") <= 1, "the heading is printed once"


def test_watch_goes_on_when_the_service_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_after(monkeypatch, lambda: None, lambda: None)
    pages = iter([Page(0, 50, 0, [])])

    def page(*_: object) -> Page:
        try:
            return next(pages)
        except StopIteration:
            raise UnavailableError("gone") from None

    monkeypatch.setattr("sidecar.cli.incident_client.HttpReader.page", page)
    done = ran("list", "--watch")

    assert (done.exit_code, done.stderr) == (0, "gone; waiting for it\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (125, "2m5s"), (599, "9m59s"), (600, "10m"), (3600 * 4 + 60, "4h1m"), (3600 * 47, "47h"),
     (86400 * 9, "9d"), (-5, "0s")],
)  # fmt: skip
def test_an_age_is_written_as_kubectl_does(seconds: int, text: str) -> None:
    assert age("2026-11-24T00:00:00.000000000Z", (1_795_478_400 + seconds) * 10**9) == text


def test_an_export_is_a_line_of_ascii_json_for_each_incident(file: Path) -> None:
    lines = ran("--state", file, "export", "--severity", "critical", "--severity", "high").stdout.splitlines()

    assert {json.loads(line)["id"] for line in lines} == {DEMO, HOSTILE}
    assert all(line.isascii() and line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("arguments", "code", "result"),
    [
        (["show", "abcd"], 1, "incident abcd not found (it may have expired)"),
        (["show", "00"], 2, "expected 4 to 16 characters out of 0-9 and a-f"),
        (["show", "0001"], 1, "0001 matches more than one incident: "),
        (["list", "--since", "soon"], 2, "since: expected a duration such as 500ms, 5s, 15m, 24h or 7d, got 'soon'"),
        (["list", "--limit", "0"], 2, "0 is not in the range"),
    ],
)
def test_an_error_is_one_line_with_its_exit_code(file: Path, arguments: list[str], code: int, result: str) -> None:
    done = ran("--state", file, *arguments)

    assert (done.exit_code, done.stdout) == (code, "")
    assert result in done.stderr


def test_a_file_that_is_no_state_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_text("hello")
    done = ran("--state", path)

    assert (done.exit_code, "cannot be read as a state file" in done.stderr) == (3, True)


def test_a_service_that_is_not_there_is_told_with_what_to_do() -> None:
    done = ran("--url", "http://127.0.0.1:9")

    assert done.exit_code == 3
    assert "is the service running?" in done.stderr
    assert ran("--url", "ftp://x").exit_code == 2


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with running() as serving:
        yield serving


@pytest.mark.slow
def test_a_running_service_is_asked_the_same(service: Running) -> None:
    url = f"http://127.0.0.1:{service.service.admin_port}"

    assert DEMO[:8] in ran("--url", url, "list", "-s", "critical", "--limit", "200").stdout
    assert DEMO in ran("show", DEMO[:5], FALCO_CORRELATOR_URL=url).stdout
    assert len(ran("--url", url, "export").stdout.splitlines()) > 20
    assert ran("--url", url, "show", "abcd").exit_code == 1
    assert ran("--url", url, "list", "--since", "soon").exit_code == 2


@pytest.mark.slow
def test_more_than_fits_is_told(service: Running) -> None:
    done = ran("--url", f"http://127.0.0.1:{service.service.admin_port}", "list", "--limit", "2")

    assert done.stderr.startswith("2 of ")


@pytest.mark.slow
def test_a_port_that_is_not_ours_is_told(service: Running) -> None:
    done = ran("--url", f"http://127.0.0.1:{service.service.http_port}")

    assert (done.exit_code, "is it the administration port" in done.stderr) == (3, True)


def on_a_terminal(arguments: list[str], environment: dict[str, str]) -> str:
    master, slave = pty.openpty()
    command = [str(Path(sys.executable).parent / "falco-correlator"), "incidents", *arguments]
    subprocess.run(command, stdout=slave, stderr=slave, env={"TERM": "xterm-256color", **environment}, check=True)
    os.close(slave)
    text = os.read(master, 65536).decode()
    os.close(master)
    return text


@pytest.mark.slow
def test_there_are_colours_on_a_terminal_only_and_not_with_no_color(file: Path) -> None:
    arguments = ["--state", str(file), "list", "-s", "critical"]

    assert "\x1b[1;37;41m" in on_a_terminal(arguments, {})
    assert "\x1b[1;37;41m" not in on_a_terminal(arguments, {"NO_COLOR": "1"})
    assert "\x1b" not in ran(*arguments).stdout


def test_an_older_state_file_is_told_by_the_command(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    sqlite3.connect(path).close()
    done = ran("--state", path)

    assert (done.exit_code, "no such table: incidents" in done.stderr) == (3, True)


def test_a_note_that_an_older_version_wrote_is_read(file: Path) -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(f"{TABLES};{EVIDENCE_TABLES}")
    made: Notification = replace(next(notifications()), summary="", row=(), closes=0)
    Archive(db).put(made, step=True)

    assert Archive(db).find(made.incident)
    db.close()
