"""Scenarios under a live Falco and the real sidecar: `make e2e FALCO=/path/to/falco`.

Falco validates the rules, then watches while every scenario and every case of the detection tables plays as real
processes; its alerts go by HTTP to `falco-correlator run`. Printed: scenario, expected, got. Needs root, a C compiler,
iproute2 and a kernel that Falco's modern eBPF probe can use.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from click import echo
from e2e import judge, recording, tree
from e2e.docker import Docker
from e2e.engine import PLUGIN, Engine
from e2e.player import full_container_id
from falco.event import OWN_ADDRESS
from falco.ruleset import Ruleset
from falco.tables import cases

from sidecar.alerts.ancestry import decode

HERE = Path(__file__).parent
SCENARIOS = sorted((HERE / "scenarios").glob("*.yaml"))
WITHOUT_QUOTA = "from sidecar.cli.main import main; from sidecar.delivery import quota; quota.ALLOWED = 10_000; main()"
"""One host has the incidents of all scenarios here: more than the service would send one by one."""

SHARES = 2
"""Players at the same time."""


def obstacle(falco: str) -> str:
    """Why nothing can be played here; "" if it can."""
    if not falco:
        return "no Falco given; say FALCO=/path/to/falco"
    if os.geteuid():
        return "root is needed to load Falco's probe and to make namespaces"
    missing = [tool for tool in (falco, "cc", "ip", "unshare", "mount") if not shutil.which(tool)]
    return f"not found: {', '.join(missing)}" if missing else ""


@contextmanager
def sidecar(folder: Path) -> Iterator[str]:
    """The real service with a file sink; gives the URL for Falco."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "FALCO_CORRELATOR_HTTP__PORT": str(port),
        "FALCO_CORRELATOR_SINKS__FILE__PATH": str(folder / "notifications.jsonl"),
        "FALCO_CORRELATOR_ADMIN__ENABLED": "false",
        "FALCO_CORRELATOR_SUPERVISOR": "false",
    }
    with (folder / "sidecar.log").open("wb") as log:
        command = [sys.executable, "-c", WITHOUT_QUOTA, "run"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        if not _answers(port):
            raise SystemExit(f"the sidecar did not start: {(folder / 'sidecar.log').read_text()}")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(timeout=10)


def _answers(port: int) -> bool:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.1)
    return False


def play(folder: Path, only: Sequence[str]) -> None:
    """Play every scenario file and the detection tables, in a private network namespace, two at a time."""
    actor = folder / "actor"
    subprocess.run(["cc", "-O1", "-static", "-o", actor, HERE / "actor.c"], check=True)
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    names = [word for name in only for word in ("--only", name)]
    try:
        time.sleep(0.2)
        players = [subprocess.Popen(_player(folder, actor, holder.pid, share, names)) for share in range(SHARES)]
        failed = [player.args for player in players if player.wait()]
    finally:
        holder.terminate()
        holder.wait()
    if failed:
        raise SystemExit(f"a player failed: {failed}")


def _player(folder: Path, actor: Path, namespace: int, share: int, names: Sequence[str]) -> list[str | Path]:
    enter: list[str | Path] = [
        "nsenter",
        f"--net=/proc/{namespace}/ns/net",
        sys.executable,
        "-m",
        "e2e.player",
        "--tables",
    ]
    where: list[str | Path] = ["--root", folder / f"root{share}", "--actor", actor, "--share", f"{share}/{SHARES}"]
    return [*enter, *where, *names, *SCENARIOS]


def report(folder: Path, engine: Engine, only: Sequence[str], *, with_plugin: bool) -> int:
    """Print the table and the totals; returns the number of mistakes."""
    ruleset = Ruleset()
    ours = {*ruleset.rules, "PROBE"}
    seen = judge.record(alert for alert in engine.raised() if alert["rule"] in ours)
    scenarios = [s for path in SCENARIOS for s in tree.load(path) if not only or s.name in only]
    notifications = folder / "notifications.jsonl"  # there once something was sent
    sent = [*map(json.loads, notifications.read_text().splitlines() if notifications.exists() else ())]
    for fields in (event["output_fields"] for event in sent):
        if "correlator.report" in fields:
            echo(f"report: {fields['correlator.report']}")
    notes = judge.notes_by_scenario(sent, scenarios, seen)
    played = [case for case in cases() if case.is_playable and (not only or case.name in only)]
    rows = [*judge.verdicts(scenarios, notes), *judge.detection_verdicts(played, seen)]
    rows += judge.group_mistakes(scenarios, seen, ruleset)
    guessed = set() if with_plugin else {scenario.name for scenario in scenarios if scenario.plugin}
    for row in [row for row in rows if row.name in guessed]:
        echo(f"{'ok   ' if row.right else 'GUESS'} {row.kind:9} {row.name:44} {row.expected:45} {row.got}")
    rows = [row for row in rows if row.name not in guessed]
    for row in rows:
        if row.kind != "detection" or not row.right:
            echo(f"{'ok   ' if row.right else 'WRONG'} {row.kind:9} {row.name:44} {row.expected:45} {row.got}")
    differences = list(judge.disagreements(seen, ruleset))
    echo("\n".join(differences))
    echo("fd.rip of containers: " + _near_or_far(seen))
    echo(f"evaluator and Falco agree on {len(seen.events) - len(differences)} of {len(seen.events)} events")
    for (kind, right), count in sorted(Counter((row.kind, row.right) for row in rows).items()):
        echo(f"{kind}: {count} {'right' if right else 'WRONG'}")
    return sum(not row.right for row in rows) + len(differences)


def _near_or_far(seen: judge.Record) -> str:
    """Which end of a connection `fd.rip` showed: the far one where Falco knows the container's address."""
    fields = [event.fields for event, _ in seen.events.values()]
    shown = [f for f in fields if f.get("evt.type") == "connect" and f.get("container.id") != "host" and "fd.rip" in f]
    far = sum(f["fd.rip"] == f.get("fd.sip") for f in shown)
    return f"the far end in {far} of {len(shown)} connections"


def containers() -> Iterator[str]:
    """The full ids of all containers that can play."""
    names = [scenario.name for path in SCENARIOS for scenario in tree.load(path) if scenario.container]
    yield from map(full_container_id, [*names, *(case.name for case in cases() if case.container)])


def run(asked: argparse.Namespace, falco: Path) -> int:
    """Validate, play, judge; returns the number of mistakes."""
    only = asked.only
    with tempfile.TemporaryDirectory(prefix="falco-correlator-e2e-") as name:
        folder = Path(name)
        socket_path = folder / "docker.sock"
        if asked.addresses:
            Docker(socket_path, containers(), OWN_ADDRESS)
        engine = Engine(falco, asked.plugin, folder, asked.beside, socket_path, asked.lineage)
        problems = engine.validate()
        echo("\n".join([f"rules: {len(problems)} errors and warnings", *problems]))
        with sidecar(folder) as url:
            engine.start(url)
            try:
                play(folder, only)
            finally:
                engine.stop()
            time.sleep(1)
        if asked.record:
            recording.save(asked.record, engine.raised())
        unknown = report_lineage(engine) if asked.lineage else 0
        return report(folder, engine, only, with_plugin=bool(asked.lineage)) + len(problems) + unknown


def report_lineage(engine: Engine) -> int:
    """Print what our plugin knew of the alerts' processes; returns the number of alerts without an exact ancestry."""
    packed = [str((each.get("output_fields") or {}).get("lineage.packed") or "") for each in engine.raised()]
    exact = [found for found in map(decode, packed) if found is not None and found.is_exact]
    lost = sum(found.has_lost_forks for found in exact)
    echo(f"lineage: {len(exact)} of {len(packed)} alerts have an ancestry, {lost} of them after a lost fork")
    return len(packed) - len(exact)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="e2e")
    parser.add_argument("--falco", default="", help="Falco's program file, 0.44 or newer")
    parser.add_argument("--plugin", type=Path, default=PLUGIN, help="Falco's container plugin")
    parser.add_argument("--beside", type=Path, action="append", default=[], help="a rules file loaded before ours")
    parser.add_argument("--only", action="append", default=[], help="only this scenario (may be repeated)")
    parser.add_argument("--addresses", action="store_true", help="let Falco know the addresses of the containers")
    parser.add_argument("--lineage", type=Path, help="our own plugin, to be loaded beside")
    parser.add_argument("--record", type=Path, help="keep the events of the scenarios for the tests without Falco")
    asked = parser.parse_args()
    reason = obstacle(asked.falco)
    if reason:
        echo(f"SKIPPED: {reason}")
        return
    falco = Path(shutil.which(asked.falco) or asked.falco)
    raise SystemExit(bool(run(asked, falco)))


if __name__ == "__main__":
    main()
