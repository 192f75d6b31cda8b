"""The next steps of the shipped rule, each tried as it is printed: on a pod with two containers, Alpine, slim, distroless,
a container of Docker, and a host.

The places are namespaces that the test makes; `kubectl` and `docker` are stand-ins that act on them.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Play, needs, spec
from support import places
from support.places import Container, Process, typed
from support.waiting import wait_until

from sidecar.model import Notification

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="namespaces are made by root"),
    pytest.mark.skipif(
        not (shutil.which("busybox") or os.environ.get("CI")), reason="busybox is missing (apt-get install busybox)"
    ),
]

ISOLATE, END, COMMANDS, CREDENTIALS, CONNECTIONS, WAY_IN, HUNT = range(7)
POD, OTHER = "app-7d9f", "proxy"
ROOTS: dict[str, Callable[[Path], Path]] = {
    "alpine": places.busybox_root,
    "slim": places.slim_root,
    "distroless": places.distroless_root,
}


class Pod:
    """A pod whose first container is not the one that is attacked."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.proxy = Container("proxy", places.busybox_root(folder / "proxy"))
        self.app = Container("app", ROOTS[kind](folder / "app"), network_of=self.proxy)
        self.folder = folder
        self.tools = places.busybox_root(folder / "tools")
        lines = [f"2026-11-24T03:0{minute}:00Z request {minute}" for minute in range(4)]
        alerts = [f"2026-11-24T03:04:{second:02}Z alert of {{}} number {second}" for second in range(40)]
        containers = {each.name: {"pid": each.pid, "root": str(each.root)} for each in (self.proxy, self.app)}
        self.state = {
            "tools": str(self.tools),
            "policies": [],
            "pods": {
                POD: {"namespace": "shop", "containers": containers, "labels": {"app": "shop"}, "log": lines},
                "falco-x": {"namespace": "security", "falco": True, "containers": {"falco": {}}, "log": alerts},
            },
        }

    def environment(self, container: str) -> dict[str, str]:
        text = json.dumps(self.state).replace("alert of {}", f"alert of {container}")
        return places.stand_ins(self.folder / "bin", json.loads(text))

    def after(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder / "bin/state.json").read_text())
        return loaded

    def close(self) -> None:
        self.app.close()
        self.proxy.close()


@pytest.fixture(params=ROOTS)
def pod(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pod]:
    made = Pod(tmp_path, request.param)
    yield made
    made.close()


def incident(play: Play, shell: Process | None = None, other: Process | None = None, **place: Any) -> Notification:
    """An incident: a web shell that lives, and after it a second one that has ended, at the number of `other`."""
    fields = place.pop("fields", {})
    alive = {"proc.pid": 5_000_001, **numbers(shell)} if shell else {}
    ended = {"proc.pid": 5_000_002, **numbers(other, lived_ns=-600 * 10**9)} if other else {}
    return play(
        spec("php-fpm > sh#1", "web_shell", fields={**fields, **alive}, **place),
        spec("php-fpm > sh#2", "web_shell", at="1s", fields={**fields, **ended}, **place),
        spec("php-fpm > sh#2 > cat", "credential", at="2s", fields={**fields, "proc.ppid.ts": 0}, **place),
    )[-1]


def numbers(process: Process, lived_ns: int = 0) -> dict[str, Any]:
    return {
        "proc.pid": process.pid,
        "proc.vpid": process.vpid,
        "proc.pid.ts": process.start_ns + lived_ns,
    }


def children(process: Process) -> list[str]:
    pids = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(pids.read_text)
    return pids.read_text().split()


def command(note: Notification, step: int) -> str:
    return note.triage[step][1]


def test_only_the_living_shell_of_the_right_container_is_ended(pod: Pod, play: Play) -> None:
    shell = pod.app.start_shell()
    later = pod.app.start_shell()  # has the number of a web shell that ended
    namesake = pod.proxy.start("sleep", "3000")  # may have the number of the shell, in the other container
    child = children(shell)[0]
    note = incident(play, shell, later)

    done = typed(command(note, END), pod.environment(note.where.container))

    assert done.returncode == 0, done.stderr
    shell.has_ended(done.stderr)
    assert later.is_alive
    assert namesake.is_alive
    wait_until(lambda: not places.runs(int(child)), why="what it started goes with it")
    for process in (later, namesake):
        process.kill()


def test_without_start_times_no_number_is_aimed_at_and_the_step_says_what_to_do(play: Play) -> None:
    unknown: dict[str, Any] = {"fields": {"proc.pid.ts": 0, "proc.ppid.ts": 0}}
    (*_, note) = play(
        spec("nginx > sh", "web_shell", **unknown), spec("nginx > sh > nc", "network", at="1s", **unknown)
    )

    words, nothing = note.triage[END]
    assert "delete the pod or stop the container" in words
    assert nothing == ""


def test_a_quarantined_pod_is_selected_by_a_policy_that_allows_nothing_and_by_no_other(pod: Pod, play: Play) -> None:
    note = incident(play)

    done = typed(command(note, ISOLATE), pod.environment(note.where.container))

    assert done.returncode == 0, done.stderr
    after = pod.after()
    (policy,) = after["policies"]
    assert policy["kind"] == "NetworkPolicy"
    assert policy["namespace"] == "shop"
    assert policy["spec"] == {
        "podSelector": {"matchLabels": {"quarantine": "true"}},
        "policyTypes": ["Ingress", "Egress"],
    }
    assert after["pods"][POD]["labels"] == {"quarantine": "true"}


def test_every_alert_of_the_container_is_shown_wherever_falco_is_installed(pod: Pod, play: Play) -> None:
    note = incident(play)

    shown = typed(command(note, COMMANDS), pod.environment(note.where.container)).stdout.splitlines()

    assert len(shown) == 40


def test_the_rights_of_the_service_account_are_listed(pod: Pod, play: Play) -> None:
    note = incident(play)

    shown = typed(command(note, CREDENTIALS), pod.environment(note.where.container)).stdout

    assert "system:serviceaccount:shop:shop-account" in shown


def test_the_connections_are_shown_in_any_image(pod: Pod, play: Play) -> None:
    note = incident(play)

    done = typed(command(note, CONNECTIONS), pod.environment(note.where.container))

    assert done.returncode == 0, done.stderr
    assert "Local Address" in done.stdout


def test_the_whole_log_is_shown_from_before_the_first_evidence(pod: Pod, play: Play) -> None:
    note = incident(play)

    shown = typed(command(note, WAY_IN), pod.environment(note.where.container)).stdout.splitlines()

    assert [line[-9:] for line in shown] == ["request 0", "request 1", "request 2", "request 3"]


def test_a_changed_file_of_the_right_container_is_found_in_any_image(pod: Pod, play: Play) -> None:
    (pod.app.root / "srv/shell.php").write_text("<?php")
    note = incident(play)
    since = re.sub(r"\d{10}(?=\) / 60)", "$(($(date +%s) - 60))", command(note, HUNT))

    done = typed(since, pod.environment(note.where.container))

    assert done.returncode == 0, done.stderr
    assert "/srv/shell.php" in done.stdout
    assert "old.php" not in done.stdout
    assert "/proc/self" not in done.stdout


PLAIN: dict[str, Any] = {"fields": {"k8s.pod.name": "", "k8s.ns.name": ""}}


def docker_environment(folder: Path, container: str, pid: int, networks: list[str]) -> dict[str, str]:
    state = {
        "journal": [f"alert of {container}", "another"],
        "docker": {container: {"pid": pid, "networks": networks, "log": ["request"], "paused": False}},
    }
    return places.stand_ins(folder / "bin", state)


@pytest.mark.parametrize(("networks", "left", "paused"), [(["shop", "db"], [], False), (["host"], ["host"], True)])
def test_a_plain_container_leaves_its_networks_or_is_paused(
    play: Play,
    tmp_path: Path,
    networks: list[str],
    left: list[str],
    paused: bool,
) -> None:
    note = incident(play, **PLAIN)
    environment = docker_environment(tmp_path, note.where.container, 1, networks)

    done = typed(command(note, ISOLATE), environment)

    assert done.returncode == 0, done.stderr
    after = json.loads((tmp_path / "bin/state.json").read_text())["docker"][note.where.container]
    assert (after["networks"], after["paused"]) == (left, paused)


def test_the_steps_for_a_plain_container_act_on_it(play: Play, tmp_path: Path) -> None:
    container = Container("app", places.distroless_root(tmp_path / "app"))
    try:
        shell = container.start_shell()
        note = incident(play, shell, **PLAIN)
        environment = docker_environment(tmp_path, note.where.container, container.pid, [])
        for step in (COMMANDS, CREDENTIALS, CONNECTIONS, WAY_IN, HUNT):
            done = typed(command(note, step), environment)
            assert (done.returncode, bool(done.stdout)) == (0, True), f"{command(note, step)}: {done.stderr}"
        typed(command(note, END), environment)
        shell.has_ended()
    finally:
        container.close()


def test_the_steps_for_a_host_act_on_the_host(play: Play, tmp_path: Path) -> None:
    shell = Process(subprocess.Popen(["sh", "-c", "sleep 3000 & wait"]))
    innocent = Process(subprocess.Popen(["sleep", "3000"]))
    note = incident(play, shell, innocent, host=True)

    typed(command(note, END), dict(os.environ))

    shell.has_ended()
    assert innocent.is_alive
    innocent.kill()


def test_files_changed_on_a_host_are_found(play: Play, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("")
    (tmp_path / "access.log").write_text("")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id").write_text("")
    note = incident(play, host=True)
    for step, where, found in ((HUNT, "/", "/new"), (WAY_IN, "/var/log", "access.log"), (CREDENTIALS, "/", ".ssh/id")):
        done = typed(command(note, step).replace(f"find {where}", f"find {tmp_path}"), dict(os.environ))
        assert done.returncode == 0, done.stderr
        assert found in done.stdout


def test_a_quarantined_user_of_a_host_opens_no_new_connection(play: Play) -> None:
    needs("iptables")
    note = incident(play, host=True)
    script = f"ip link set lo up; {command(note, ISOLATE)}; iptables -S OUTPUT"

    done = subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, check=False)

    assert "-m owner --uid-owner 33 -m conntrack --ctstate NEW -j REJECT" in done.stdout, done.stderr
