"""One row of the table: what was measured, against which goal; and how runs are interleaved."""

import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec import Struct

Runs = Mapping[str, list[float]]


class Outcome(Struct, frozen=True):
    """A row. Without a `limit` it is told, not judged; `measured` None means that it could not be measured, and why."""

    part: str
    what: str
    measured: float | None
    unit: str = "x"
    limit: float | None = None
    better: Literal["<=", ">="] = "<="
    told: str = ""
    runs: dict[str, list[float]] = {}

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; a goal that could not be measured is not."""
        if self.limit is None:
            return None
        if self.measured is None:
            return False
        return self.measured <= self.limit if self.better == "<=" else self.measured >= self.limit

    @property
    def goal(self) -> str:
        return "" if self.limit is None else f"{self.better} {number(self.limit)} {self.unit}"

    @property
    def value(self) -> str:
        return "not measured" if self.measured is None else f"{number(self.measured)} {self.unit}"

    @property
    def verdict(self) -> str:
        return {True: "met", False: "MISSED", None: ""}[self.met]


class Plan(NamedTuple):
    """How much is measured, and where files may lie."""

    folder: Path
    peers: Path
    """The Python of the peers' own environment."""
    runs: int
    alerts: int
    """Of one run of the file and transport rows."""
    seen: int
    """Contexts and processes of the scale row."""
    seconds: int
    """Of one paced run."""


def number(value: float) -> str:
    """A number as a person reads it."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def interleaved(runs: int, measures: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Every measure in turn, again and again: what disturbs the machine disturbs all of them."""
    results: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(runs):
        for name, measure in measures.items():
            results[name].append(measure())
    return results


def ratio(runs: Runs, above: str, below: str) -> float:
    """The median of the ratios of each round."""
    return statistics.median(a / b for a, b in zip(runs[above], runs[below], strict=True))


def medians(runs: Runs, unit: str = "us") -> str:
    """The median of each, as text."""
    return ", ".join(f"{name} {number(statistics.median(values))} {unit}" for name, values in runs.items())


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which a share of them lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def table(outcomes: Iterable[Outcome]) -> list[str]:
    """The rows in columns, as text."""
    rows = [("what", "goal", "measured", "")] + [(o.what, o.goal, o.value, o.verdict) for o in outcomes]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def summary(outcomes: Iterable[Outcome]) -> str:
    """The last line."""
    verdicts = [outcome.met for outcome in outcomes]
    return f"{verdicts.count(True)} passed, {verdicts.count(False)} failed"
