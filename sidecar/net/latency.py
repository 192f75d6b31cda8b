"""A cheap histogram of durations: Falco waits for every response before it sends the next alert."""

from bisect import bisect_left

BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
"""Upper bounds of the buckets in seconds. A response after 0.01 s is late."""

FIRST_BOUND = BOUNDS[0]


class Latency:
    """Counts of durations up to each of BOUNDS, and one for those above."""

    def __init__(self) -> None:
        self.total = 0.0
        self._counts = [0] * (len(BOUNDS) + 1)

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.total += seconds
        self._counts[0 if seconds <= FIRST_BOUND else bisect_left(BOUNDS, seconds)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound and cumulative count of each bucket, as Prometheus expects them."""
        seen = 0
        cumulated = []
        for bound, count in zip([*map(str, BOUNDS), "+Inf"], self._counts, strict=True):
            seen += count
            cumulated.append((bound, float(seen)))
        return cumulated
