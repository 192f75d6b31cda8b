"""How long things took, counted at next to no cost: Falco waits for every answer before it sends another alert."""

from bisect import bisect_left

BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
"""Seconds; an answer after 0.01 is late."""


FIRST = BOUNDS[0]


class Latency:
    """Counts of durations up to each of BOUNDS, and one for those above."""

    def __init__(self) -> None:
        self.total = 0.0
        self._counts = [0] * (len(BOUNDS) + 1)

    def add(self, seconds: float) -> None:
        """Count one."""
        self.total += seconds
        self._counts[0 if seconds <= FIRST else bisect_left(BOUNDS, seconds)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """How many took at most so many seconds, in the words of Prometheus."""
        seen, cumulated = 0, []
        for bound, count in zip([*map(str, BOUNDS), "+Inf"], self._counts, strict=True):
            seen += count
            cumulated.append((bound, float(seen)))
        return cumulated
