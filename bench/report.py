"""Makes docs/performance.md and its chart of `results.json`, which `make bench` wrote."""

import statistics
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import msgspec
from bars import bars
from outcome import Outcome, number, summary
from run import RESULTS, Results

DOCS = Path(__file__).parent.parent / "docs"
CASED = ("gRPC", "HTTP")
OURS = ("Falco Correlator", "sidecar")
METHOD = """\
`make bench` does all of it (`SHORT=1` in less than twenty minutes, `ONLY=grpc` one part); `make bench-docs` makes this
page of its `bench/results.json`. Each measured process is a child of its own; what counts is its CPU time, user and
system, for each alert, or its resident memory, both from /proc. Whatever is compared runs in turns, again and again: a
ratio is the median of the ratios of the rounds. Times of one machine say little about another, ratios do.

- **The work**: `bench/workload.py` makes seeded alerts as Falco writes them, of 19 output fields and 0.9 KB, in 5,000
  containers by Zipf over two hours, of which 2 % or 100 % interest the correlation rule. Chains of web shell, network
  or shell technique, and credential are planted in every order, decoys lie further apart than the window, one alert of
  a hundred arrives late. So it is known which contexts are a full compromise, and every answer is judged.
- **gRPC**: Falco's queue behind `get`, in HTTP/2 frames made beforehand (`bench/falco_h2.py`), one write a message. A
  C++ server on libgrpc++ 1.51 gave both readers the same cost: 25 and 14.5 us, where this one gave 27 and 14.5.
- **HTTP**: wrk, eight kept connections, or one as Falco has; no alert is sent twice. The no-op servers read the body
  and answer 200, both on uvloop.
- **Peers** answer the same question of the same file: web shell, credential, and network or shell technique within 15
  minutes in one (container, session). They get the key for nothing; we work out the process tree, mask secrets, remove
  duplicates and write incidents. SEC knows no event time, EQL `sequence` one order, EQL `join` no window; bytewax
  brings state, but what is done with it is ours; DuckDB is right, and blind until it is run.
- **Instructions** are counted by callgrind for runs that differ only in the number of alerts. They repeat to a
  thousandth, so `make check` refuses a change that needs a tenth more than `bench/instructions.json`.
"""


ADVICE = """
A normal cluster gives 33,000 alerts a day in all, less than one a second; 100 a second on one node is a storm. So
request `cpu: 10m, memory: 64Mi`. Idle and scraped it is {idle:.0f} MB with its supervisor, and an attacker who fills
every budget adds {brim:.0f} MB: limit memory to 128 MiB. Do not limit the CPU, or to 500m at least, since Falco waits
for each answer. Above a thousand alerts a second on one node look for the rule that fires too often, not for a larger
node. The gRPC columns scale what was measured at 1,000 a second; at rest Falco is asked twice a second.
"""


def page(results: Results) -> str:
    """The whole page."""
    return "\n".join(
        [
            "# Performance",
            "",
            "Made by `make bench-docs` of what `make bench` measured; not to be edited.",
            "",
            *_circumstances(results),
            "",
            f"**{summary(results.outcomes)}**, of the goals below. A goal that is missed is told with its number.",
            "",
            "![CPU per alert of each tool](performance.svg)",
            "",
            "## Goals and what was measured",
            "",
            *_tables(results.outcomes),
            *([WHY] if any(each.met is False for each in results.outcomes) else []),
            "## How much a node needs",
            "",
            *_sizing(results.outcomes),
            "",
            "## How it is measured",
            "",
            METHOD,
        ]
    )


WHY = """\
## Why goals are missed

**All alerts relevant.** Each is then read in full, compared with those before it, freed of secrets, tied to the
processes that are remembered, placed in its context, weighed against window and case, and all that it takes is
counted against budgets: forty-five calls in Python, of which none stands out (ARCHITECTURE.md, *Where the time goes*,
has the profile, what was done about it and what was tried; compiled with Cython it is a quarter less, which meets no
goal either). Twenty times SEC on lines as JSON asks for 14 us an alert, on lines by regular expressions for 1.4;
twenty times EQL for 1.8, DuckDB for 2.4, bytewax for 3.2, where reading the alert alone takes 1. The peers are given
the key, keep no process tree, no bound on memory and no incident, so they have a tenth of it to do. On a node two
alerts of a hundred are relevant; a thousand relevant ones a second are an attack on the correlator itself, and then
cost 7 % of a core.

**gRPC, all relevant.** grpcio takes 16 us to bring an alert, protobuf and its texts 8 to 12: half of the no-op
reader, and of 50 us at 1,000 a second. What is left for correlation is 0 and 22 us.

**HTTP.** The three system calls of a request, made in C with nothing else, took 6.8 to 7.4 us on this machine, which
is 0.28 of what a server on aiohttp takes that reads an alert and throws it away. asyncio adds one, ours less than
two.

"""


def _circumstances(results: Results) -> Iterator[str]:
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    quiet = (
        "" if results.others < 0.1 else ": it was not quiet, so trust ratios more than times, and medians more than p99"
    )
    plan = results.plan
    kind = f"a {'short' if results.short else 'full'} run of {results.took / 60:.0f} minutes"
    yield f"- **When**: {results.when}, {kind}"
    yield f"- **Beside it** other work on the machine took {max(results.others, 0):.2f} cores{quiet}"
    yield f"- **Machine**: {machine}"
    yield f"- **Versions**: {', '.join(f'{name} {value}' for name, value in results.versions.items())}"
    yield f"- **Size**: {plan['runs']} rounds of {plan['alerts']:,} alerts, paced ones {plan['seconds']} s long"


def _tables(outcomes: Iterable[Outcome]) -> Iterator[str]:
    for part, rows in groupby(outcomes, key=lambda outcome: outcome.part):
        yield from (
            f"### {part if part in CASED else part.capitalize()}",
            "",
            "| what | goal | measured | | medians |",
            "|---|---|---|---|---|",
        )
        for row in rows:
            verdict = f"**{row.verdict}**" if row.met is False else row.verdict
            cells = (row.what, row.goal, row.value, verdict, row.told)
            yield "| " + " | ".join(cell.strip().replace("|", "\\|") for cell in cells) + " |"
        yield ""


def _median(outcomes: Iterable[Outcome], part: str, start: str, name: str) -> float:
    """The median of one of the runs behind a row, found by how the row begins."""
    row = next(each for each in outcomes if each.part == part and each.what.startswith(start))
    return statistics.median(row.runs[name])


def _sizing(outcomes: list[Outcome]) -> Iterator[str]:
    """CPU for rates of alerts, in thousandths of a core as Kubernetes counts them; memory."""
    usual = _median(outcomes, "pass-through", "CPU with", "on")
    few, all_ = (
        _median(outcomes, "HTTP", f"whole sidecar, {share} relevant, 8", "sidecar") for share in ("2%", "100%")
    )
    grpc = [_median(outcomes, "gRPC", f"1,000 alerts/s at {share}", "sidecar") / 100 * 1000 for share in ("2%", "100%")]
    yield "| alerts a second | HTTP, pass-through, 2 % relevant | all relevant | gRPC, 2 % relevant | all relevant |"
    yield "|---|---|---|---|---|"
    for rate in (1, 10, 100, 1000):
        costs = [usual * rate / 1000, (usual + all_ - few) * rate / 1000, *(each * rate / 1000 for each in grpc)]
        yield f"| {rate:,} | " + " | ".join(f"{number(max(cost, 1))}m" for cost in costs) + " |"
    held = [each for each in outcomes if each.part == "idle" and each.what.endswith("http")]
    idle = sum(each.measured or 0 for each in held if "supervisor" in each.what or "scraped" in each.what)
    brim = next((each.measured or 0 for each in outcomes if each.what.startswith("memory that every budget")), 0)
    yield ADVICE.format(idle=idle, brim=brim).rstrip()


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
