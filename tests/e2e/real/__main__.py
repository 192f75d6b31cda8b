"""Real services under a live Falco: `make e2e-real FALCO=/path/to/falco [MINUTES=30]`.

Attacks with real tools through real holes, each on a fresh service, then a normal day's work. Printed: attacks that were
told as they must be, incidents of normal work (there must be none), and the alerts an hour by rule. With LINEAGE=, or with
other rules to COMPARE, a second and third Falco watch the same events, and each has its tables. Needs root, runc, a kernel
that Falco's modern eBPF probe can use, and the services; those that are missing are named and left out.
"""

import argparse
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from click import echo
from e2e.__main__ import obstacle
from e2e.docker import Docker
from e2e.engine import PLUGIN, RULES
from e2e.real import network, runs, verdicts
from e2e.real.chores import TIMERS
from e2e.real.places import IMAGE, LAYERS, container_id
from e2e.real.runs import Run
from e2e.real.services import SERVICES
from e2e.real.watchers import Errand, Watcher, watching
from e2e.real.work import Shift, diary_around
from falco.event import OWN_ADDRESS

HERE = Path(__file__).parent
BENIGN = "normal work"
PLAYED = "played"
"""The file in which what plays leaves what came of it."""


@dataclass
class Phases:
    """When what was done, in seconds since 1970."""

    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)

    def of(self, when: float) -> str:
        """The phase of a moment."""
        return next((name for name, (begin, end) in self.bounds.items() if begin <= when <= end), "")


def services_here(only: Sequence[str]) -> list[str]:
    """The services that this machine has; the others are named."""
    found = []
    for name, service in SERVICES.items():
        if only and name not in only:
            continue
        if service.missing:
            echo(f"SKIPPED {name}: not found: {', '.join(service.missing)}")
        else:
            found.append(name)
    return found


def furnish() -> tuple[Path, subprocess.Popen[bytes]]:
    """Take this process to its own network, with the attacker in it; gives his folder and the process of his servers."""
    IMAGE.mkdir(parents=True, exist_ok=True)
    LAYERS.mkdir(parents=True, exist_ok=True)
    if not LAYERS.is_mount():
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", LAYERS], check=True)
    network.unshare()
    runs.compile_implant()
    folder = LAYERS / "attacker"
    runs.furnish(folder)
    servers = subprocess.Popen([sys.executable, "-m", "e2e.real.network", folder])
    network.await_desk(folder)
    return folder, servers


def clear() -> None:
    """Leave nothing behind."""
    shutil.rmtree(IMAGE, ignore_errors=True)
    subprocess.run(["umount", "-l", LAYERS], check=False, capture_output=True)
    with suppress(OSError):
        LAYERS.rmdir()


def play(asked: argparse.Namespace, plan: Sequence[Run], services: Sequence[str]) -> tuple[Shift, Phases]:
    """Attacks, then rest, then work."""
    folder, servers = furnish()
    shift, phases = Shift(asked.seed), Phases()
    began = time.time()
    try:
        runs.in_parallel(runs.Player(folder), plan)
        phases.bounds["attacks"] = (began, time.time())
        if asked.minutes:
            shift.begin(services)
            for phase, seconds in (("rest", asked.rest), ("work", asked.minutes * 60)):
                began = time.time()
                time.sleep(seconds) if phase == "rest" else shift.work(seconds)
                phases.bounds[phase] = (began, time.time())
    finally:
        shift.end()
        servers.kill()
        servers.wait()
    return shift, phases


def report(watcher: Watcher, plan: Sequence[Run], shift: Shift, phases: Phases, names: Sequence[str]) -> int:
    """Print the tables of one watcher; returns the number of mistakes."""
    echo(f"===== {watcher.label}: {watcher.lost} system calls lost")
    owners = verdicts.Owners([run.name for run in plan] + [*names])
    rules: dict[str, Counter[str]] = {"rest": Counter(), "work": Counter(), "attacks": Counter()}
    for alert in watcher.engine.raised():
        owner = owners.of_alert(alert)
        phase = phases.of(alert["output_fields"].get("evt.time.iso8601", 0) / 1e9)
        if phase and owner != verdicts.ELSEWHERE:
            rules[phase][alert["rule"]] += 1
    mistakes = _incidents(watcher, owners, plan, shift, names) if watcher.correlates else 0
    for phase, (begin, end) in phases.bounds.items():
        echo(f"alerts an hour, {phase} ({end - begin:.0f} s):")
        echo("\n".join(verdicts.per_hour(rules[phase], end - begin)))
    return mistakes


def _incidents(
    watcher: Watcher, owners: verdicts.Owners, plan: Sequence[Run], shift: Shift, names: Sequence[str]
) -> int:
    """Print what was told of attacks and of normal work; returns the number of mistakes."""
    notes = verdicts.notes_by_run(watcher.sent(), owners)
    wrong = _judge_attacks(plan, notes, with_plugin=bool(watcher.engine.lineage))
    told = {name: notes[name] for name in names if notes.get(name)}
    for name, incidents in told.items():
        for note, fields in incidents:
            when = float(fields.get("evt.time", 0)) / 1e9
            echo(f"WRONG {BENIGN} {name}: {note.severity} {note.case}: {fields['incident.timeline']}")
            echo(f"      {diary_around(shift.diary, when, name)}")
    for note, fields in notes.get(verdicts.ELSEWHERE, ()):
        echo(f"elsewhere on this machine: {note.severity} {note.case}: {fields['incident.timeline']}")
    _tables(plan, notes, shift, told)
    failed = {name: count for name, count in shift.done.items() if name.endswith(("Error", "Expired"))}
    echo(f"work: {sum(shift.done.values())} tasks of {len(shift.done)} kinds, failed {failed}; incidents {len(told)}")
    return wrong + len(told)


def _judge_attacks(plan: Sequence[Run], notes: verdicts.Notes, *, with_plugin: bool) -> int:
    wrong = 0
    for run in plan:
        got = _got(run, notes)
        if not run.worked:
            echo(f"PLAY  {run.service} {run.where}: {run.attack.name}: the attack failed: {run.trace[-300:]}")
        elif not run.is_right(got):
            guessed = run.is_guess and not with_plugin
            wrong += not guessed
            word = "GUESS" if guessed else "WRONG"
            echo(f"{word} {run.service} {run.where}: {run.attack.name}: expected {run.expected}, got {got}")
            for _, fields in notes.get(run.name, ()):
                echo(f"      {fields['incident.timeline']}")
    return wrong


def _got(run: Run, notes: verdicts.Notes) -> str:
    return verdicts.outcome([note for note, _ in notes.get(run.name, ())])


def _tables(plan: Sequence[Run], notes: verdicts.Notes, shift: Shift, told: verdicts.Notes) -> None:
    echo(f"{'service':22} {'host':>9} {'known':>9} {'unknown':>9} {'work done':>10} {'incidents':>10}")
    for name in (*SERVICES, *TIMERS):
        cells = []
        for where in runs.PLACES:
            mine = [run for run in plan if run.service == name and run.where == where and run.worked]
            cells.append(f"{sum(run.is_right(_got(run, notes)) for run in mine)}/{len(mine)}")
        tasks = sum(count for task, count in shift.done.items() if task.startswith(f"work-{name}-"))
        benign = sum(place.startswith(f"work-{name}-") for place in told)
        echo(f"{name:22} {cells[0]:>9} {cells[1]:>9} {cells[2]:>9} {tasks:10} {benign:10}")
    worked = [run for run in plan if run.worked]
    right = sum(run.is_right(_got(run, notes)) for run in worked)
    echo(f"attacks: {right} of {len(worked)} right; {len(plan) - len(worked)} plays failed")


def planned(asked: argparse.Namespace) -> tuple[list[Run], list[str]]:
    """The attacks that were asked for, and the services that this machine has."""
    services = services_here(asked.only)
    plan = [
        each
        for each in runs.planned(asked.attacks, services)
        if (not asked.attack or asked.attack in each.attack.name) and (not asked.where or each.where in asked.where)
    ]
    return plan, services


def perform(asked: argparse.Namespace) -> None:
    """Play in this process, and leave for the one that judges what came of it."""
    plan, services = planned(asked)
    try:
        shift, phases = play(asked, plan, services)
    finally:
        clear()
    asked.play.write_bytes(pickle.dumps((plan, shift, phases)))


def run(asked: argparse.Namespace, falco: Path) -> int:
    """Start Falco and the sidecar, play, judge; returns the number of mistakes."""
    plan, services = planned(asked)
    names = [*Shift.names(services)] if asked.minutes else []
    known = [each.name for each in plan if each.where == "known"] + [name for name in names if name.endswith("-known")]
    with tempfile.TemporaryDirectory(prefix="falco-correlator-e2e-real-") as place:
        folder = Path(place)
        Docker(folder / "docker.sock", map(container_id, known), OWN_ADDRESS)
        watchers = _watchers(asked, falco, folder)
        errand = Errand(folder, [sys.executable, "-m", "e2e.real", *sys.argv[1:], "--play", str(folder / PLAYED)])
        with watching(watchers):
            errand.run()
        plan, shift, phases = pickle.loads((folder / PLAYED).read_bytes())  # noqa: S301 - our own
        if asked.keep:
            shutil.copytree(folder, asked.keep, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock", "go"))
        return sum(report(watcher, plan, shift, phases, names) for watcher in watchers)


def _watchers(asked: argparse.Namespace, falco: Path, folder: Path) -> list[Watcher]:
    """Ours, ours with our plugin, and one with other rules, as far as they are asked for."""

    def watcher(label: str, rules: Path, lineage: Path | None = None, *, correlates: bool = True) -> Watcher:
        return Watcher(label, falco, asked.plugin, folder, rules, lineage, correlates=correlates)

    ours = [watcher("rules", asked.rules)]
    exact = [watcher("rules and plugin", asked.rules, asked.lineage)] if asked.lineage else []
    others = [watcher(f"other rules {at}", file, correlates=False) for at, file in enumerate(asked.compare, 1)]
    return ours + exact + others


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="e2e.real")
    parser.add_argument("--falco", default="", help="Falco's program file, 0.44 or newer")
    parser.add_argument("--plugin", type=Path, default=PLUGIN, help="Falco's container plugin")
    parser.add_argument("--lineage", type=Path, help="our own plugin, loaded in a second Falco")
    parser.add_argument("--rules", type=Path, default=RULES, help="other Falco rules in place of ours")
    parser.add_argument(
        "--compare",
        type=Path,
        action="append",
        default=[],
        help="Falco rules whose alerts to count over the same events",
    )
    parser.add_argument("--minutes", type=float, default=30, help="how long normal work goes on; 0: attacks only")
    parser.add_argument("--rest", type=float, default=60, help="seconds in which the services have nothing to do")
    parser.add_argument("--attacks", type=int, default=3, help="attacks on each service in each place")
    parser.add_argument("--attack", default="", help="only attacks with this in their name")
    parser.add_argument("--where", action="append", default=[], help="only there: host, known, unknown")
    parser.add_argument("--only", action="append", default=[], help="only this service (may be repeated)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of normal work")
    parser.add_argument("--play", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=Path, help="a folder for alerts and notifications")
    asked = parser.parse_args()
    reason = obstacle(asked.falco) or ("" if shutil.which("runc") else "not found: runc")
    if reason:
        echo(f"SKIPPED: {reason}")
        return
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if asked.play:
        perform(asked)
        return
    raise SystemExit(bool(run(asked, Path(shutil.which(asked.falco) or asked.falco))))


if __name__ == "__main__":
    main()
