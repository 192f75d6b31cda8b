"""Makes docs/performance.md and its chart from `results.json`, which `make bench` wrote.

The page is for users: what a node needs comes first, the comparison second, every measurement last. Goals and verdicts
are for developers: `make bench` prints them, and `bench/README.md` explains those that are missed.
"""

import re
import statistics
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import msgspec
from bars import bars
from outcome import Outcome, number
from run import RESULTS, Results

DOCS = Path(__file__).parent.parent / "docs"
CASED = ("gRPC", "HTTP")
OURS = ("Falco Correlator", "sidecar")
WEIGHED_BY_HAND = {"the gRPC sink": 18, "TLS (OpenSSL)": 7, "the first incident page": 4}
"""MB that a part adds to an idle worker, on 2026-11-28; the bench does not start these parts."""

METHOD = """\
`make bench` measures everything (`SHORT=1` in less than twenty minutes, `ONLY=grpc` one part), and `make bench-docs` writes this page from its `bench/results.json`.
Each measured process is a child of its own.
What counts is its CPU time, user and system, for each alert, or its resident memory, both from /proc.
Things that are compared run alternately, again and again, and a ratio is the median of the ratios of the rounds.
Times from one machine say little about another; ratios do.

- **Workload**: `bench/workload.py` generates seeded alerts as Falco writes them, with 19 output fields and 0.9 KB each, in 5,000 containers (Zipf) over two hours. 2 % or 100 % of them are relevant to the correlation rule. Chains of web shell, network or shell technique, and credential are planted in every order, decoys lie further apart than the window, and one alert in a hundred arrives late. It is therefore known which contexts are a full compromise, and every answer is judged.
- **gRPC**: Falco's queue behind `get`, in HTTP/2 frames made beforehand (`bench/falco_h2.py`), one write per message. A C++ server on libgrpc++ 1.51 gave both readers the same cost.
- **HTTP**: wrk with eight kept connections, or with one as Falco has; no alert is sent twice. The no-op servers read the body and answer 200, both on uvloop.
- **Other tools** answer the same question of the same file: web shell, credential, and network or shell technique within 15 minutes in one (container, session). They are given the key; Falco Correlator works out the process tree, masks secrets, removes duplicates, and writes incidents. SEC has no event time, EQL `sequence` supports one order, EQL `join` has no window, bytewax brings state but leaves its use to the author, and DuckDB is right but runs as a batch.
- **Instructions** are counted by callgrind for runs that differ only in the number of alerts. They repeat to a thousandth.
"""

ADVICE = """\
Request `cpu: 10m` and `memory: 64Mi`, and limit memory to 128 MiB; with gRPC, to 160 MiB.
Do not limit CPU below 500m, because Falco waits for each answer.

A normal cluster produces 33,000 alerts a day in all, which is less than one per second; 100 per second on one node is a storm.
Above a thousand alerts per second on one node, look for the rule that fires too often, not for a larger node.
The gRPC columns scale what was measured at 1,000 per second; when idle, Falco is polled twice a second.
"""


def page(results: Results) -> str:
    """The whole page."""
    return "\n".join(
        [
            "# Performance and sizing",
            "",
            "<!-- Made by `make bench-docs` from what `make bench` measured. Do not edit. -->",
            "",
            "## How much a node needs",
            "",
            *_sizing(results.outcomes),
            "",
            "## Compared with other tools",
            "",
            *_compared(results.outcomes),
            "## All measurements",
            "",
            *_tables(results.outcomes),
            "## How it is measured",
            "",
            *_circumstances(results),
            "",
            METHOD,
        ]
    )


def _circumstances(results: Results) -> Iterator[str]:
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    quiet = (
        ""
        if results.others < 0.1
        else ": the machine was not quiet, so trust ratios more than times, and medians more than p99"
    )
    plan = results.plan
    kind = f"a {'short' if results.short else 'full'} run of {results.took / 60:.0f} minutes"
    yield f"- **When**: {results.when}, {kind}"
    yield f"- **Other work** on the machine took {max(results.others, 0):.2f} cores{quiet}"
    yield f"- **Machine**: {machine}"
    yield f"- **Versions**: {', '.join(f'{name} {value}' for name, value in results.versions.items())}"
    yield f"- **Size**: {plan['runs']} rounds of {plan['alerts']:,} alerts, paced ones of {plan['seconds']} s"


def _tables(outcomes: Iterable[Outcome]) -> Iterator[str]:
    for part, rows in groupby(outcomes, key=lambda outcome: outcome.part):
        yield from (
            f"### {part if part in CASED else part.capitalize()}",
            "",
            "| what | measured | details |",
            "|---|---|---|",
        )
        for row in rows:
            cells = (row.what, row.value, row.told)
            yield "| " + " | ".join(cell.strip().replace("|", "\\|") for cell in cells) + " |"
        yield ""


def _median(outcomes: Iterable[Outcome], part: str, start: str, name: str) -> float:
    """The median of one of the runs behind a row, found by how the row begins."""
    row = next(each for each in outcomes if each.part == part and each.what.startswith(start))
    return statistics.median(row.runs[name])


def _measured(outcomes: Iterable[Outcome], start: str) -> float:
    return next((each.measured or 0 for each in outcomes if each.what.startswith(start)), 0)


def _sizing(outcomes: list[Outcome]) -> Iterator[str]:
    """Memory; CPU for rates of alerts, in thousandths of a core as Kubernetes counts them; what to request."""
    supervisor, worker = (
        _measured(outcomes, f"resident memory of {what}, http") for what in ("its supervisor", "the worker")
    )
    scraped = _measured(outcomes, "resident memory of the worker once it is scraped, http")
    grpc = _measured(outcomes, "resident memory of the worker, grpc")
    full = _measured(outcomes, "memory added when every budget is full")
    yield "| resident memory | MB |"
    yield "|---|---|"
    for what, size in (
        ("supervisor", supervisor),
        ("worker, idle, HTTP", worker),
        ("... the first scrape of `/metrics` adds", scraped - worker),
        ("... the gRPC source adds", grpc - worker),
        *((f"... {what} adds", size) for what, size in WEIGHED_BY_HAND.items()),
        ("... every budget full at once, as under attack, adds", full),
    ):
        yield f"| {what} | {number(size)} |"
    yield ""
    usual = _median(outcomes, "pass-through", "CPU with", "on")
    few, all_ = (
        _median(outcomes, "HTTP", f"whole sidecar, {share} relevant, 8", "sidecar") for share in ("2%", "100%")
    )
    polled = [
        _median(outcomes, "gRPC", f"1,000 alerts/s at {share}", "sidecar") / 100 * 1000 for share in ("2%", "100%")
    ]
    yield "CPU in thousandths of a core, by alerts per second on the node; on a typical node, 2 % of the alerts are relevant:"
    yield ""
    yield "| alerts per second | HTTP with pass-through, 2 % relevant | all relevant | gRPC, 2 % relevant | all relevant |"
    yield "|---|---|---|---|---|"
    for rate in (1, 10, 100, 1000):
        costs = [usual * rate / 1000, (usual + all_ - few) * rate / 1000, *(each * rate / 1000 for each in polled)]
        yield f"| {rate:,} | " + " | ".join(f"{number(max(cost, 1))}m" for cost in costs) + " |"
    yield ""
    yield ADVICE.rstrip()


def _compared(outcomes: list[Outcome]) -> Iterator[str]:
    """What a user would pick instead: CPU per alert over the same file, memory, and how right the answers are."""
    yield "![CPU per alert of each tool](performance.svg)"
    yield ""
    yield "| tool | CPU per alert, 2 % relevant | all relevant | memory, all relevant | compromised contexts missed | falsely reported |"
    yield "|---|---|---|---|---|---|"
    answers: dict[str, list[tuple[str, ...]]] = {}
    for row in outcomes:
        if row.part == "peers" and " of our CPU at " in row.what:
            for name, *numbers in re.findall(r"([^;]+?) ([\d,.]+ us), (\d+ MB), (\d+) missed, (\d+) false", row.told):
                answers.setdefault(name.strip(), []).append(tuple(numbers))
    for name, rows in sorted(answers.items(), key=lambda item: item[0] not in OURS):
        relevant, few = rows[0], rows[-1]
        yield f"| {name} | {few[0]} | {' | '.join(relevant)} |"
    yield ""
    yield (
        "The other tools are given the key to group by, keep no process tree, have no bound on memory, and write no incident. "
        "When every alert is relevant they do a fraction of the work."
    )
    yield ""


def chart(results: Results) -> str:
    """CPU per alert of every tool on the same file, for both shares."""
    panels: dict[str, dict[str, float]] = {}
    for row in results.outcomes:
        if row.part == "peers" and row.runs:
            share = "2 %" if " 2% " in row.what else "100 %"
            panel = panels.setdefault(f"CPU per alert, {share} of the alerts relevant (logarithmic)", {})
            panel.update({name: statistics.median(values) for name, values in row.runs.items()})
    return bars(panels, "us", OURS)


def main() -> int:
    """Write both files."""
    if not RESULTS.exists():
        print(f"{RESULTS} is not there: run make bench first", file=sys.stderr)
        return 2
    results = msgspec.json.decode(RESULTS.read_bytes(), type=Results)
    (DOCS / "performance.md").write_text(page(results).rstrip() + "\n")
    (DOCS / "performance.svg").write_text(chart(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
