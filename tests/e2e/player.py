"""Plays scenarios as real processes, so that a Falco on this machine sees php-fpm start sh start curl.

Every process is a copy of one small program (`actor.c`) under the name that the scenario asks for, in its own mount, PID
and cgroup surroundings, with the name of its scenario in the environment variable CASE. Run it as root in a network
namespace of its own: `unshare --net python -m e2e.player ...`.
"""

import argparse
import ctypes
import hashlib
import os
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from click import echo
from e2e import tree
from e2e.stage import Stage
from falco.tables import cases

SLOT = 0.04
"""Seconds between two steps of a scenario."""

CLONE_NEWNS, MS_REC, MS_PRIVATE, MS_BIND = 0x20000, 0x4000, 0x40000, 0x1000
PIVOT_ROOT = 155
DETACH = 2
FLAGS = {"terminal": "t", "setsid": "s", "detached": "d", "namespace": "p", "cgroup": "c"}
CGROUPS = ("pids", "memory", "cpu", "cpuacct", "freezer", "devices")


def write_plan(stage: Stage, scenario: tree.Scenario) -> tree.Process:
    """Write the plan file that the actors follow; returns the top process."""
    processes, end = tree.grow(scenario)
    for process in processes:
        if "fork" not in process.marks:
            stage.install(process)
    for kind, what in tree.needs(processes):
        stage.provide(kind, what)
    lines = [_plan_line(process, end) for process in processes]
    (stage.root / "plan" / scenario.name).write_text("\n".join(lines) + "\n")
    return processes[0]


def _plan_line(process: tree.Process, end: int) -> str:
    deeds = [f"{slot * SLOT:.3f}:{kind}:{what}" for slot, kind, what in process.deeds]
    if not process.replaced:
        deeds.append(f"{end * SLOT:.3f}:wait")
    flags = "".join(FLAGS.get(mark, "") for mark in sorted(process.marks)) or "-"
    argv = [word.replace("\n", "\x1e") for word in process.argv]
    return "\x1f".join([str(process.number), process.file, flags, str(len(argv)), *argv, *deeds])


def full_container_id(name: str) -> str:
    """The container that a scenario plays in."""
    return hashlib.sha256(name.encode()).hexdigest()


def container_id(name: str) -> str:
    """The container that a scenario plays in, as Falco names it."""
    return full_container_id(name)[:12]


def _cgroups(name: str) -> list[str]:
    full = full_container_id(name)
    pod = f"kubepods/besteffort/pod{full[:8]}-1111-2222-3333-444444444444/{full}"
    made = []
    for controller in CGROUPS:
        folder = Path("/sys/fs/cgroup", controller, pod)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        made.append(str(folder))
    return made


def _leave_the_container_of_this_machine() -> None:
    """Move to the root of every cgroup hierarchy: where this machine is a container itself, its host is to look like one."""
    for controller in CGROUPS:
        procs = Path("/sys/fs/cgroup", controller, "cgroup.procs")
        if procs.exists():
            procs.write_text("0")


def play(stage: Stage, scenario: tree.Scenario) -> None:
    """Play one scenario to its end."""
    top = write_plan(stage, scenario)
    groups = _cgroups(scenario.name) if scenario.container else []
    environment = {
        "ACTOR_PLAN": f"/plan/{scenario.name}",
        "ACTOR_NODE": "0",
        "ACTOR_T0": str(time.monotonic() + SLOT),
        "ACTOR_CGROUPS": ":".join(groups),
        "ACTOR_ORPHAN": "yes",
        "CASE": scenario.name,
        "PATH": "/usr/bin:/bin",
    }
    root = str(stage.root)
    ended, held = os.pipe()  # every process of the play holds the other end
    child = subprocess.Popen(
        top.argv,
        executable=top.file,
        env=environment,
        preexec_fn=lambda: _enter(root),  # noqa: PLW1509 - the actor needs its own mounts, and no thread holds a lock
        stdin=subprocess.DEVNULL,
        pass_fds=[held],
    )
    os.close(held)
    child.wait(timeout=30)
    if not select.select([ended], [], [], 30)[0]:
        raise TimeoutError(scenario.name)
    os.close(ended)


def _enter(root: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    os.setsid()
    libc.unshare(CLONE_NEWNS)
    libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    libc.mount(root.encode(), root.encode(), None, MS_BIND | MS_REC, None)
    os.makedirs(f"{root}/.old", exist_ok=True)  # noqa: PTH103 - between fork and exec
    os.chdir(root)
    if libc.syscall(PIVOT_ROOT, b".", b".old"):
        os._exit(99)
    os.chdir("/")
    libc.umount2(b"/.old", DETACH)


def main() -> None:
    """Play scenario files: `player.py --root DIR --actor FILE [--tables] [--only NAME]... FILE...`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--actor", type=Path, required=True)
    parser.add_argument("--tables", action="store_true", help="the cases of the detection tables too")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--share", default="0/1", help="play only every n-th, beginning with the k-th: k/n")
    parser.add_argument("files", type=Path, nargs="*")
    asked = parser.parse_args()
    scenarios = [scenario for path in asked.files for scenario in tree.load(path)]
    scenarios += [case.scenario() for case in cases() if asked.tables and case.is_playable]
    first, step = map(int, asked.share.split("/"))
    chosen = [scenario for scenario in scenarios if not asked.only or scenario.name in asked.only]
    perform(Stage(asked.root.resolve(), asked.actor.resolve()), chosen[first::step])


def perform(stage: Stage, scenarios: Sequence[tree.Scenario]) -> None:
    """Play scenarios one after the other."""
    stage.prepare()
    _leave_the_container_of_this_machine()
    try:
        for scenario in scenarios:
            play(stage, scenario)
            echo(scenario.name)
    finally:
        stage.clear()


if __name__ == "__main__":
    main()
