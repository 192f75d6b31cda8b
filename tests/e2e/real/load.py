"""Falco's CPU time and losses under load, with our rules and with others, or with our plugin and without, in turns.

`python -m e2e.real.load --falco FILE --rules old.yaml --rules new.yaml` asks a real nginx on this host for pages at a rate
while Falco watches with each rules file in turn, several rounds. With `--lineage liblineage.so` each rules file has a turn
with the plugin and one without; with `--execs` the load is as many forks and execs as this machine gives. Printed: clock
ticks of Falco in each turn, system calls that it lost, and the medians.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from click import echo
from e2e.__main__ import obstacle
from e2e.engine import PLUGIN, RULES, Engine
from e2e.real.services import SERVICES, Running, place

HERE = Path(__file__).parent

EXECS = r"""
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
int main(int count, char **given) {
  char *child[] = {"/bin/true", 0};
  long done = 0;
  for (time_t end = time(0) + atoi(given[count - 1]); time(0) < end; done++) {
    pid_t pid = fork();
    if (!pid) { execv(child[0], child); _exit(127); }
    waitpid(pid, 0, 0);
  }
  printf("%ld\n", done);
}
"""


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


def execs(program: Path, seconds: float) -> int:
    """Fork and exec as often as this machine can, one worker a core; how often it was."""
    words = [str(program), str(int(seconds))]
    workers = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(os.cpu_count() or 1)]
    return sum(int(worker.communicate()[0]) for worker in workers)


@dataclass
class Turns:
    """What is compared: rules files, each without and with our plugin; and the ticks of Falco of each."""

    falco: Path
    plugin: Path
    kinds: Sequence[tuple[Path, Path | None]]
    seconds: float
    used: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def compare(self, rounds: int, load: Callable[[], int]) -> None:
        """Play all turns, in the other order every second round, and print them and their medians."""
        for turn in range(rounds):
            for rules, lineage in self.kinds if turn % 2 == 0 else self.kinds[::-1]:
                self._measure(turn + 1, rules, lineage, load)
        for label, used in self.used.items():
            echo(f"median {label}: {median(used):.0f} ticks in {self.seconds:.0f} s of {sorted(used)}")
        self.used.clear()

    def _measure(self, turn: int, rules: Path, lineage: Path | None, load: Callable[[], int]) -> None:
        label = f"{rules}{' with the plugin' if lineage else ''}"
        with tempfile.TemporaryDirectory(prefix="falco-correlator-load-") as folder:
            engine = Engine(
                self.falco, self.plugin, Path(folder), lineage=lineage, rules=rules, probe=HERE / "probe.yaml"
            )
            engine.start("")
            try:
                before, began = ticks(engine.pid), time.monotonic()
                done = load()
                used, took = ticks(engine.pid) - before, time.monotonic() - began
            finally:
                engine.stop()
            self.used[label].append(used)
            alerts, lost = sum(1 for _ in engine.raised()), engine.counted("scap.n_drops")
            seen = engine.counted("scap.n_evts")
        echo(
            f"{label} round {turn}: {used} ticks at {done / took:.0f}/s; {alerts} alerts, {lost} of {seen} events lost"
        )


def play(asked: argparse.Namespace, turns: Turns) -> None:
    """Make the load and compare."""
    with ExitStack() as stack:
        if asked.execs:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="falco-correlator-execs-")))
            (folder / "execs.c").write_text(EXECS)
            subprocess.run(["cc", "-O2", "-w", "-o", folder / "execs", folder / "execs.c"], check=True)
            turns.compare(asked.rounds, lambda: execs(folder / "execs", asked.seconds))
            return
        running = Running(SERVICES["nginx-fpm"], place("host", "load"))
        stack.callback(running.end)
        running.start()
        (running.folder / "www/page.html").write_text("page " * 200)
        for rate in asked.rate or [2000]:
            turns.compare(asked.rounds, partial(requests, f"{running.url}/page.html", rate, asked.seconds))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="e2e.real.load")
    parser.add_argument("--falco", default="")
    parser.add_argument("--plugin", type=Path, default=PLUGIN, help="Falco's container plugin")
    parser.add_argument("--lineage", type=Path, help="our own plugin, to be compared with none")
    parser.add_argument("--rules", type=Path, action="append", default=[])
    parser.add_argument("--rate", type=int, action="append", default=[], help="requests a second")
    parser.add_argument("--execs", action="store_true", help="forks and execs in place of requests")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8)
    asked = parser.parse_args()
    missing = [name for name in ("ab", "nginx", "php-fpm8.2") if not shutil.which(name)]
    reason = obstacle(asked.falco) or (f"not found: {', '.join(missing)}" if missing else "")
    if reason:
        echo(f"SKIPPED: {reason}")
        return
    plugins = [None, asked.lineage.resolve()] if asked.lineage else [None]
    kinds = [(rules.resolve(), lineage) for rules in asked.rules or [RULES] for lineage in plugins]
    os.chdir("/")
    play(asked, Turns(Path(asked.falco), asked.plugin, kinds, asked.seconds))


if __name__ == "__main__":
    main()
