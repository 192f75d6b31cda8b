"""The attack as a picture: a lane for each process, time across, a dot for each moment; a template draws it."""

from collections.abc import Iterator
from typing import NamedTuple

from sidecar.incidents import view
from sidecar.model import RANK

MAX_LANES = 24
"""Processes that are drawn; the tree has all."""

MAX_DOTS = 40
"""Moments of one process that are drawn; the timeline has all."""

COLOURS = 5
"""Colours that groups have, one after the other (`dot-0` to `dot-4` in page.css)."""

LEFT, WIDTH = 4, 92
"""Where time begins, and how far it reaches, in percent of the width."""


class Dot(NamedTuple):
    """A moment: its place in percent of the width, the letter and the colour of its group."""

    x: float
    letter: str
    colour: int
    event: view.Event


class BarShape(NamedTuple):
    """A bar of the histogram: its place and width in percent, its parts from below, and what it says."""

    x: float
    width: float
    parts: list[tuple[str, float, float]]
    start: str
    end: str
    words: str


HEIGHT = 48
"""Of the histogram, in pixels."""


def histogram_bars(histogram: view.Histogram | None) -> list[BarShape]:
    """The bars of a histogram; parts are severity, top and height in pixels."""
    bars = histogram.bars if histogram else []
    most = max((sum(bar.counts.values()) for bar in bars), default=0)
    width = round(100 / max(len(bars), 1), 3)
    shapes = []
    for number, bar in enumerate(bars):
        top = float(HEIGHT)
        parts: list[tuple[str, float, float]] = []
        for severity, count in sorted(bar.counts.items(), key=lambda each: RANK[each[0]]):
            height = max(round(HEIGHT * count / most, 2), 1.5)
            top -= height
            parts.append((severity, round(max(top, 0.0), 2), height))
        end = bars[number + 1].start if number + 1 < len(bars) else ""
        words = ", ".join(f"{count} {severity}" for severity, count in bar.counts.items())
        shapes.append(BarShape(round(number * width, 3), width, parts, bar.start, end, words))
    return shapes


class Lane(NamedTuple):
    """A process, how far below the service it is, and its moments."""

    name: str
    pid: int
    depth: int
    dots: list[Dot]


class Picture(NamedTuple):
    """What is drawn: lanes, the names of groups with letter and colour, seconds from left to right, lanes left out."""

    lanes: list[Lane]
    legend: list[tuple[str, str, int]]
    seconds: float
    left_out: int


def picture(incident: view.Incident) -> Picture:
    """The picture of an incident."""
    seconds = max((event.after for event in incident.timeline), default=0.0)
    order = {group.name: number for number, group in enumerate(incident.groups)}
    seen = {name for event in incident.timeline for name in event.groups}
    legend = [
        (group.words, group.words[:1], order[group.name] % COLOURS) for group in incident.groups if group.name in seen
    ]
    lanes = list(_lanes(incident.processes, 0, seconds, order))
    return Picture(lanes[:MAX_LANES], legend, seconds, max(len(lanes) - MAX_LANES, 0))


def _lanes(processes: list[view.ProcessNode], depth: int, seconds: float, order: dict[str, int]) -> Iterator[Lane]:
    for process in processes:
        dots = [
            Dot(
                round(LEFT + WIDTH * max(event.after, 0.0) / (seconds or 1.0), 2),
                name[:1].upper(),
                order.get(name, 0) % COLOURS,
                event,
            )
            for event in process.events[:MAX_DOTS]
            for name in event.groups[:1]
        ]
        yield Lane(process.name or "?", process.pid, depth, dots)
        yield from _lanes(process.started, depth + 1, seconds, order)
