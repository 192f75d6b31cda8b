"""What was really run: by file, applet, loader and interpreter, from the command lines that a live Falco recorded.

Covers: `meaning.interpreted_code`.
"""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.alerts.decode import envelope
from sidecar.meaning.program import Program, program
from sidecar.model import Fields

RECORDED = Path(__file__).parents[1] / "falco" / "data" / "programs.jsonl.gz"
"""Case by case, how tools were run on a host (`H_`) and in a container (`C_`)."""

RUN = {
    **dict.fromkeys(("direct", "symlink_tool", "exec_a", "bb_link", "bb_arg", "ldso", "ldso_argv0"), "cat"),
    **dict.fromkeys(
        ("procselffd", "shebang_env_cat", "timeout", "nice", "xargs", "findexec", "setpriv", "sudo"), "cat"
    ),
    **dict.fromkeys(("memfd", "memfd_go"), "memfd:x"),
    **dict.fromkeys(("ldso_tmp", "copy_tool", "procselffd_bash"), "catcopy"),
    "hardlink_tool": "hardcat",
    "copy_as_nginx": "nginx",
    "curl": "curl",
    "cp_sec": "cp",
}
"""The program that each case ends in."""

SCRIPTS = {
    "py_script": "s.py",
    "py_rel": "s.py",
    "py_dot": "s.py",
    "py_opts": "s.py",
    "py_dir": "pkg",
    "py_zip": "app.pyz",
    "shebang_env": "sx.py",
    "perl_script": "s.pl",
    "node_script": "s.js",
}
"""The script that the last program of each case runs."""

FROM_DESCRIPTOR = ("py_stdin", "py_devstdin", "py_i_rc")
INLINE = ("py_c", "py_flag_join", "node_r", "py_pythonstartup_site")


@cache
def recorded() -> dict[str, list[Fields]]:
    """The program starts of each case."""
    found: dict[str, list[Fields]] = {}
    for line in gzip.decompress(RECORDED.read_bytes()).splitlines():
        event = json.loads(line)
        if event["output_fields"]["evt.type"] in ("execve", "execveat"):
            found.setdefault(event["case"], []).append(fields(event["output_fields"]))
    return found


def fields(output_fields: dict[str, Any]) -> Fields:
    body = {"rule": "r", "time": "2026-11-28T01:15:47.772916513Z", "output_fields": output_fields}
    return envelope(json.dumps(body).encode()).alert().fields


def last(case: str) -> Program:
    return program(recorded()[case][-1])


def _first(command: str) -> str:
    return command.partition(" ")[0]


def run(exepath: str, command: str, exe: str = "", cwd: str = "/", name: str = "") -> Program:
    name = name or _first(command).rpartition("/")[2][:15]
    line = " ".join([name, *command.split(" ")[1:]])
    return program(Fields(exepath=exepath, name=name, cmdline=line, exe=exe or _first(command), cwd=cwd))


@pytest.mark.parametrize("place", ["H_", "C_"])
@pytest.mark.parametrize("case", [case for case in RUN if case != "shebang_env_cat"])
def test_recorded_program_is_known_by_what_it_is(place: str, case: str) -> None:
    assert last(place + case).name == RUN[case]


@pytest.mark.parametrize("place", ["H_", "C_"])
@pytest.mark.parametrize("case", SCRIPTS)
def test_recorded_interpreter_is_known_by_its_script(place: str, case: str) -> None:
    found = last(place + case)
    assert found.script.startswith("/")
    assert found.script.rpartition("/")[2] == SCRIPTS[case]
    assert "shell" in found.kinds or "file_reader" in found.kinds or not found.is_general_tool


@pytest.mark.parametrize("place", ["H_", "C_"])
@pytest.mark.parametrize("case", [*FROM_DESCRIPTOR, *INLINE])
def test_recorded_code_without_a_file_makes_an_interpreter_a_tool(place: str, case: str) -> None:
    found = last(place + case)
    assert found.reads_code == (case in FROM_DESCRIPTOR)
    assert found.has_inline_code == (case in INLINE)
    assert found.is_general_tool


@pytest.mark.parametrize(
    ("exepath", "command", "script"),
    [
        ("/usr/bin/python3.11", "python3 -X dev -W ignore /app/x.py", "/app/x.py"),
        ("/usr/bin/python3.11", "python3 --check-hash-based-pycs always x.py", "/srv/x.py"),
        ("/usr/bin/perl", "perl -w -I /app/lib x.pl", "/srv/x.pl"),
        ("/usr/bin/ruby3.1", "ruby -W0 -rjson -I lib /app/x.rb", "/app/x.rb"),
        ("/usr/local/bin/php", "php -d memory_limit=1G -f /app/x.php", "/app/x.php"),
        ("/usr/local/bin/node", "node --max-old-space-size=64 -r dotenv/config /app/x.js", "/app/x.js"),
        ("/usr/local/bin/bun", "bun run /app/x.ts", "/app/x.ts"),
        ("/usr/bin/dash", "sh -e /app/x.sh", "/app/x.sh"),
        ("/usr/bin/bash", "bash -o pipefail --norc x.sh", "/srv/x.sh"),
    ],
)
def test_options_with_values_are_not_taken_for_the_script(exepath: str, command: str, script: str) -> None:
    assert run(exepath, command, cwd="/srv").script == script


@pytest.mark.parametrize(
    "command", ["python3 -uc pass", "perl -lne print", "ruby -rsocket -e 1", "php -r 1;", "deno eval 1"]
)
def test_code_in_the_arguments_makes_an_interpreter_a_tool(command: str) -> None:
    assert run(f"/usr/bin/{_first(command)}", command).is_general_tool


@pytest.mark.parametrize(
    "command", ["python3 -m http.server", "python3 -m base64 /f", "python3", "python3 -u", "node -", "sh"]
)
def test_a_module_that_is_a_tool_and_code_from_standard_input_do_what_their_user_says(command: str) -> None:
    assert run(f"/usr/bin/{_first(command)}", command).is_general_tool


@pytest.mark.parametrize("command", ["python3 -m celery worker", "node --version", "php-fpm", "node /app/x.js -e 1"])
def test_a_program_of_its_own_is_no_tool(command: str) -> None:
    assert not run(f"/usr/bin/{_first(command)}", command).is_general_tool


def test_a_console_command_is_its_script_although_the_interpreter_runs() -> None:
    found = run("/usr/bin/python3.11", "/usr/local/bin/dbt run --target prod")
    assert found.script == "/usr/local/bin/dbt"
    assert not found.is_general_tool


def test_an_interpreter_that_is_called_like_a_console_command_is_seen_to_run_code_from_its_arguments() -> None:
    assert run("/usr/bin/python3.11", "dbt -c pass").is_general_tool


@pytest.mark.parametrize(
    ("exepath", "exe", "command", "name"),
    [
        ("/bin/busybox", "nginx", "nginx busybox", "nginx"),
        ("/bin/busybox", "busybox", "busybox wget -q x", "wget"),
        ("/bin/busybox", "-sh", "sh", "sh"),
        ("/bin/busybox.static", "/tmp/cat", "cat /f", "cat"),
        ("/usr/bin/toybox", "toybox", "toybox nc 1 2", "nc"),
        ("/usr/bin/coreutils", "coreutils", "coreutils --coreutils-prog=head /f", "head"),
        ("/usr/lib/cargo/bin/coreutils/coreutils", "cat", "cat /f", "cat"),
        (
            "/lib/ld-musl-x86_64.so.1",
            "/lib/ld-musl-x86_64.so.1",
            "ld-musl-x86_64. --library-path /l /bin/busybox cat f",
            "cat",
        ),
        (
            "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
            "x",
            "ld-linux-x86-64 --argv0 nginx --preload a.so cat f",
            "cat",
        ),
    ],
)
def test_a_file_that_is_many_programs_is_the_one_that_it_is_asked_for(
    exepath: str, exe: str, command: str, name: str
) -> None:
    assert run(exepath, command, exe=exe).name == name


def test_a_loader_runs_a_file_relative_to_its_folder() -> None:
    assert run("/lib64/ld-linux-x86-64.so.2", "ld.so ./c -s", cwd="/tmp/x").file == "/tmp/x/c"


@pytest.mark.parametrize(
    ("exepath", "command", "is_tool"),
    [
        ("/srv/t/n24/node_modules/node/bin/node", "MainThread nt.js", False),
        ("/srv/t/n24/node_modules/node/bin/node", "node nt.js", False),
        ("/usr/lib/jvm/java-17-openjdk-amd64/bin/java", "java -cp . NT", False),
        ("/usr/local/bin/python3.11", "evilname -c \ufffdimport threading", True),
        ("/usr/local/bin/python3.11", "python3 -c \ufffdimport threading", True),
    ],
)
def test_the_name_that_a_thread_or_prctl_gave_changes_nothing(exepath: str, command: str, is_tool: bool) -> None:
    assert run(exepath, command).is_general_tool == is_tool


def test_without_a_file_the_name_decides() -> None:
    assert run("", "curl -s x").is_general_tool
    assert not run("", "php-fpm").is_general_tool


@given(
    st.text(max_size=60),
    st.text(max_size=20),
    st.text(max_size=20),
    st.sampled_from(["/bin/busybox", "/usr/bin/python3", "", "/lib64/ld-linux-x86-64.so.2", "/usr/bin/node"]),
)
def test_any_text_gives_a_program(cmdline: str, name: str, exe: str, exepath: str) -> None:
    found = program(Fields(exepath=exepath, name=name, cmdline=cmdline, exe=exe))
    assert found.is_general_tool in (True, False)
    assert not (found.has_inline_code and found.is_module)
