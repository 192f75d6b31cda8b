"""The same file and rule for every tool that a user might pick instead: cost, memory, and is its answer right?"""

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import workload
from outcome import Outcome, Plan, interleaved, number, ratio
from processes import PYTHON, answer_of, largest

PART = "peers"
HERE = Path(__file__).parent
OURS = "Falco Correlator"
PEERS = {
    "SEC, lines by regular expressions": 20.0,
    "SEC, lines decoded as JSON": 20.0,
    "EQL sequence": 20.0,
    "EQL join": None,
    "bytewax": 1.5,
    "DuckDB (batch)": 1.0,
}
"""With how many times our CPU the goal says."""


class Answer(NamedTuple):
    """What one run of one tool gave."""

    cpu: float
    memory: float
    found: frozenset[str]


def run(name: str, plan: Plan, file: Path) -> Answer:
    """One run of a tool by name."""
    peer = HERE / "peers"
    if name.startswith("SEC"):
        return sec(peer / f"sec_{'json' if 'JSON' in name else 'regexp'}.conf", file, plan.folder)
    commands = {
        OURS: [PYTHON, HERE / "ours.py", file],
        "EQL sequence": [plan.peers, peer / "endgame_eql.py", file, "sequence"],
        "EQL join": [plan.peers, peer / "endgame_eql.py", file, "join"],
        "bytewax": [plan.peers, peer / "bytewax_stream.py", file],
        "DuckDB (batch)": [plan.peers, peer / "duckdb_batch.py", file],
    }
    told = answer_of(commands[name])
    return Answer(told["cpu"], told["memory"], frozenset(told["answer"]))


def sec(configuration: Path, file: Path, folder: Path) -> Answer:
    """SEC over a file; what it costs to start is taken off, as it is for the others."""
    began = _sec(configuration, Path(os.devnull), folder).cpu
    answer = _sec(configuration, file, folder)
    return answer._replace(cpu=max(answer.cpu - began, 0))


def _sec(configuration: Path, file: Path, folder: Path) -> Answer:
    written = folder / "sec.out"
    with written.open("wb") as out:
        command = ["sec", f"--conf={configuration}", f"--input={file}", "--notail"]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        memory, pid = 0.0, 0
        while not pid:
            memory = max(memory, largest(process.pid))  # getrusage would give that of this process, which started it
            time.sleep(0.02)
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Answer(usage.ru_utime + usage.ru_stime, memory, frozenset(written.read_text().split()))


def outcomes(plan: Plan) -> Iterator[Outcome]:
    """At 100 % relevant against the goals, at 2 % told."""
    names = [OURS, *(name for name in PEERS if shutil.which("sec") or not name.startswith("SEC"))]
    count = min(plan.alerts * 5 // 2, 200_000)
    for share in (1.0, 0.02):
        work = workload.generate(count, share)
        file = plan.folder / f"peers-{share}.jsonl"
        file.write_bytes(b"\n".join(work.alerts) + b"\n")
        answers: dict[str, Answer] = {}

        runs = interleaved(plan.runs, {name: partial(_cost, name, plan, file, answers) for name in names})
        runs = {name: [cpu / count * 1e6 for cpu in each] for name, each in runs.items()}
        yield from _judged(share, runs, answers, work.truth)
    yield _at_length(plan)


def _at_length(plan: Plan) -> Outcome:
    """Our answer to the longest stream, where budgets of the memory begin to give."""
    work, file = workload.generate(200_000, 1.0), plan.folder / "peers-long.jsonl"
    file.write_bytes(b"\n".join(work.alerts) + b"\n")
    answer = run(OURS, plan, file)
    missed, false = len(work.truth - answer.found), len(answer.found - work.truth)
    what = f"the same for 200,000 alerts, all relevant, of {len(work.truth)}"
    told = f"{missed} missed, {false} false, {answer.memory:.0f} MB, {number(answer.cpu / 0.2)} us"
    return Outcome(PART, what, missed + false, "", limit=0, told=told)


def _cost(name: str, plan: Plan, file: Path, answers: dict[str, Answer]) -> float:
    answers[name] = run(name, plan, file)
    return answers[name].cpu


def _judged(
    share: float, runs: dict[str, list[float]], answers: dict[str, Answer], truth: frozenset[str]
) -> Iterator[Outcome]:
    for name, goal in PEERS.items():
        limit = goal if share == 1.0 else None
        what = f"{name}, x of our CPU at {share:.0%} relevant"
        if name not in runs:
            yield Outcome(PART, what, None, limit=limit, told="not installed (apt-get install sec)")
            continue
        both = {name: runs[name], OURS: runs[OURS]}
        told = f"{_told(name, runs, answers[name], truth)}; {_told(OURS, runs, answers[OURS], truth)}"
        yield Outcome(PART, what, ratio(runs, name, OURS), limit=limit, better=">=", told=told, runs=both)
    wrong = len(truth ^ answers[OURS].found)
    what = f"our answers that are missed or false at {share:.0%} relevant, of {len(truth)}"
    yield Outcome(PART, what, wrong, "", limit=0, told=f"{len(truth)} contexts are compromised")


def _told(name: str, runs: dict[str, list[float]], answer: Answer, truth: frozenset[str]) -> str:
    cpu = number(statistics.median(runs[name]))
    missed, false = len(truth - answer.found), len(answer.found - truth)
    return f"{name} {cpu} us, {answer.memory:.0f} MB, {missed} missed, {false} false"
