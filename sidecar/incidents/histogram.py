"""How many incidents there were when: bars over time, by the last evidence of each."""

from collections import Counter
from collections.abc import Sequence

from sidecar.incidents.falco_event import rfc3339
from sidecar.incidents.view import Bar, Histogram
from sidecar.model import Severity

MAX_BARS = 24

MINUTE, HOUR, DAY = 60, 3_600, 86_400

LENGTHS = (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 30 * DAY)
"""Lengths of a bar in seconds; the shortest is used that shows all in MAX_BARS."""

SEVERITIES: dict[int, Severity] = {4: "critical", 3: "high", 2: "medium", 1: "low"}
"""By rank, the most severe first."""

_NS = 1_000_000_000


def severities(times: Sequence[tuple[int, int]]) -> dict[Severity, int]:
    """The number of incidents of each severity; `times` pair rank and time (ns)."""
    counted = Counter(rank for rank, _ in times)
    return {severity: counted[rank] for rank, severity in SEVERITIES.items()}


def histogram(times: Sequence[tuple[int, int]], since: int, until: int) -> Histogram | None:
    """The last bars from `since` (0: the first incident) to `until` (ns); None without incidents."""
    if not times:
        return None
    first = since if since > 1 else min(time for _, time in times)
    last = max(until - 1, first)
    seconds = next((each for each in LENGTHS if _bars(first, last, each) <= MAX_BARS), LENGTHS[-1])
    length = seconds * _NS
    end = last // length
    start = max(first // length, end - MAX_BARS + 1)
    counted = Counter((min(max(time // length, start), end), rank) for rank, time in times)
    return Histogram(seconds, [_bar(at, at * length, counted) for at in range(start, end + 1)])


def _bar(at: int, start: int, counted: Counter[tuple[int, int]]) -> Bar:
    counts = {severity: counted[at, rank] for rank, severity in SEVERITIES.items() if counted[at, rank]}
    return Bar(rfc3339(start), counts)


def _bars(first: int, last: int, seconds: int) -> int:
    return last // (seconds * _NS) - first // (seconds * _NS) + 1
