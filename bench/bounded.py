"""The flood and the full memory (`flood.py`, `full.py`) as rows of the table."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from outcome import Outcome, Plan
from processes import PYTHON

PART = "bounds"
HERE = Path(__file__).parent


def outcomes(plan: Plan) -> Iterator[Outcome]:
    """Memory at its worst, and whether the victim of a flood is still seen."""
    flooded = _run("flood.py", "--detections", str(plan.seen))
    told = flooded.splitlines()[-2]
    memory = float(re.findall(r"([\d,]+) MB", told)[-1])
    yield Outcome(PART, f"memory after {plan.seen:,} detections from one container", memory, "MB", limit=256, told=told)
    lost = float("critical after" not in told)
    yield Outcome(PART, "victims in another container that the flood hid", lost, "", limit=0, told=told)
    told, _, limit = _run("full.py").splitlines()[-2].partition(", goal ")
    grown, goal = (float(re.findall(r"([\d,]+) MB", text)[0]) for text in (told, limit))
    yield Outcome(PART, "memory added when every budget is full", grown, "MB", limit=goal, told=told)


def _run(*command: str) -> str:
    """What one of the two prints; its exit code only says again what its lines do."""
    return subprocess.run([PYTHON, HERE / command[0], *command[1:]], capture_output=True, text=True, check=False).stdout
