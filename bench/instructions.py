"""Instructions an alert, counted by callgrind: the same to a few on every run, so a regression of a thirtieth is seen.

Two runs of one program that differ only in the number of alerts: what lies between them is the alerts. `--check`
compares the pipeline with the bounds in `instructions.json`, `--store` makes the numbers of now the bounds.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

BOUND = Path(__file__).with_name("instructions.json")
PROGRAM = Path(__file__).with_name("over_file.py")
FEW, MOST = 500, 3000
ALLOWED = 1.03
SHARES = (0.02, 1.0)
"""Of relevant alerts."""


def unable() -> str:
    """Why nothing can be counted here; empty if it can."""
    return "" if shutil.which("valgrind") else "valgrind is not installed (apt-get install valgrind)"


def per_alert(name: str, share: float) -> float:
    """Instructions that one of `over_file.works` takes for an alert, where a share of them is relevant."""
    with ThreadPoolExecutor(2) as pool:
        few, most = pool.map(lambda count: _counted(name, count, share), (FEW, MOST))
    return (most - few) / (MOST - FEW)


def _counted(name: str, count: int, share: float) -> int:
    command = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        sys.executable,
        "-X",
        "frozen_modules=on",
    ]
    done = subprocess.run(
        [*command, str(PROGRAM), name, str(count), str(share)],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        raise RuntimeError(done.stderr[-2000:])
    return int(found[1])


def makings() -> dict[str, str]:
    """What the number depends on beside our code; another interpreter is another number."""
    return {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "msgspec": version("msgspec"),
        "machine": platform.machine(),
    }


def check() -> int:
    """Compare with the bound; 0 if it holds, or cannot be judged here."""
    bound = json.loads(BOUND.read_text())
    wanted = {name: bound[name] for name in makings()}
    if why := unable() or ("" if wanted == makings() else f"the bound is for {wanted}, this is {makings()}"):
        print(f"instructions an alert: skipped, {why}")
        return 0
    return max(_judged(share, bound["instructions"][f"{share:.0%}"]) for share in SHARES)


def _judged(share: float, bound: int) -> int:
    counted, most = per_alert("pipeline", share), bound * ALLOWED
    passed = counted <= most
    remedy = "" if passed else "; make it cheaper, or `python bench/instructions.py --store` and say why in the commit"
    verdict = "met" if passed else "MISSED"
    print(f"instructions an alert, {share:.0%} relevant: {counted:,.0f}, at most {most:,.0f}: {verdict}{remedy}")
    return int(not passed)


def main() -> int:
    """Count, and check or store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 if it is 3 % more than the bound")
    parser.add_argument("--store", action="store_true", help="make the number of now the bound")
    arguments = parser.parse_args()
    if arguments.check:
        return check()
    counted = {f"{share:.0%}": round(per_alert("pipeline", share)) for share in SHARES}
    print("instructions an alert:", ", ".join(f"{count:,} at {share} relevant" for share, count in counted.items()))
    if arguments.store:
        BOUND.write_text(json.dumps({"instructions": counted, **makings()}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
