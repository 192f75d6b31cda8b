"""Falco's CPU time under requests, with our rules and with others, in turns.

`python -m e2e.real.load --falco FILE --rules old.yaml --rules new.yaml` asks a real nginx on this host for pages at a rate
while Falco watches with each rules file in turn, several rounds. Printed: clock ticks of Falco by rules file and round.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from click import echo
from e2e.__main__ import obstacle
from e2e.engine import PLUGIN, RULES, Engine
from e2e.real.services import SERVICES, Running, place

HERE = Path(__file__).parent


def ticks(pid: int) -> int:
    """CPU time that a process has used, in clock ticks of 10 ms."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


def requests(url: str, rate: int, seconds: float) -> int:
    """Ask for a page by new connections at a rate, evenly in steps of a tenth of a second; how many were answered."""
    answered, began = 0, time.monotonic()
    for step in range(int(seconds * 10)):
        time.sleep(max(0.0, began + step / 10 - time.monotonic()))
        words = ["ab", "-q", "-n", str(rate // 10), "-c", "10", url]
        run = subprocess.run(words, capture_output=True, text=True, check=False)
        answered += run.stdout.count("Complete requests") * (rate // 10)
    return answered


def measure(engine: Engine, url: str, rate: int, seconds: float) -> tuple[int, float, Counter[str]]:
    """Ticks of Falco in a turn, the rate that was reached, and the alerts that it raised."""
    engine.start("")
    try:
        before, began = ticks(engine.pid), time.monotonic()
        answered = requests(url, rate, seconds)
        used, took = ticks(engine.pid) - before, time.monotonic() - began
    finally:
        engine.stop()
    return used, answered / took, Counter(alert["rule"] for alert in engine.raised())


def compare(
    falco: Path, plugin: Path, files: Sequence[Path], rounds: int, rates: Sequence[int], seconds: float
) -> None:
    """Play all turns and print them."""
    running = Running(SERVICES["nginx-fpm"], place("host", "load"))
    try:
        running.start()
        (running.folder / "www/page.html").write_text("page " * 200)
        for rate in rates:
            for turn in range(rounds):
                for rules in files if turn % 2 == 0 else files[::-1]:
                    with tempfile.TemporaryDirectory(prefix="falco-correlator-load-") as folder:
                        engine = Engine(falco, plugin, Path(folder), rules=rules, probe=HERE / "probe.yaml")
                        used, reached, raised = measure(engine, f"{running.url}/page.html", rate, seconds)
                    echo(
                        f"{rules.name:40} round {turn + 1}: {used:5} ticks at {reached:5.0f} requests/s; {raised.total()} alerts"
                    )
    finally:
        running.end()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="e2e.real.load")
    parser.add_argument("--falco", default="")
    parser.add_argument("--plugin", type=Path, default=PLUGIN)
    parser.add_argument("--rules", type=Path, action="append", default=[])
    parser.add_argument("--rate", type=int, action="append", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    asked = parser.parse_args()
    missing = [name for name in ("ab", "nginx", "php-fpm8.2") if not shutil.which(name)]
    reason = obstacle(asked.falco) or (f"not found: {', '.join(missing)}" if missing else "")
    if reason:
        echo(f"SKIPPED: {reason}")
        return
    os.chdir("/")
    compare(Path(asked.falco), asked.plugin, asked.rules or [RULES], asked.rounds, asked.rate or [2000], asked.seconds)


if __name__ == "__main__":
    main()
