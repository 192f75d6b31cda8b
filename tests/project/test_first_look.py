"""A newcomer's way: README's commands lead to the page of a Critical incident; and a page that nobody opens costs nothing."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.waiting import wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
COMMAND = str(Path(sys.executable).parent / "falco-correlator")


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PATH": os.environ["PATH"], **environment},
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def said(process: subprocess.Popen[str], pattern: str) -> str:
    assert process.stdout
    for line in process.stdout:
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError(f"it never said {pattern}")


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own address
        return str(answer.read().decode())


def test_what_make_run_starts_tells_the_address_of_a_critical_incidents_page() -> None:
    assert "$(BIN)/falco-correlator demo" in (ROOT / "Makefile").read_text()
    with started("demo", "--port", "0", "--admin-port", "0") as process:
        page = fetched(said(process, r"See it: +(http://127\.0\.0\.1:\d+/incidents/[0-9a-f]{16})"))

    assert "Full Web Application Compromise" in page
    assert '<span class="badge critical">Critical</span> <span class="state open">Open</span>' in page


def test_the_readme_leads_there_in_two_commands() -> None:
    first = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[0]
    commands = [line for line in first.splitlines() if line.strip() and not line.startswith("#")]

    assert [command.split()[0] for command in commands] == ["git", "make"]


def resident(pid: int) -> float:
    (size,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(size) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_the_page_costs_no_memory_until_it_is_opened(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("{http: {port: 0}, admin: {port: 0}, supervisor: false, sinks: {file: {path: /dev/null}}}")
    with started("run", "-c", str(settings)) as process:
        port = said(process, r'"admin_port": ?(\d+)')
        fetched(f"http://127.0.0.1:{port}/healthz")
        before = loaded(process.pid), resident(process.pid)
        fetched(f"http://127.0.0.1:{port}/")
        wait_until(lambda: loaded(process.pid))
        after = loaded(process.pid), resident(process.pid)

    assert (before[0], after[0]) == (False, True), "Jinja's C part is mapped only once a page was opened"
    assert after[1] - before[1] < 20


def loaded(pid: int) -> bool:
    return "markupsafe" in Path(f"/proc/{pid}/maps").read_text()
