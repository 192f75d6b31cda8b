"""Durations in buckets."""

from sidecar.net.latency import BOUNDS, Latency


def test_each_bucket_counts_what_took_at_most_so_long() -> None:
    latency = Latency()
    for seconds in (0.00005, 0.001, 0.0011, 7.0):
        latency.add(seconds)
    counts = dict(latency.buckets())

    assert (counts["0.0001"], counts["0.001"], counts["0.0025"], counts["1.0"], counts["+Inf"]) == (1, 2, 3, 3, 4)
    assert round(latency.total, 5) == 7.00215


def test_no_duration_at_all_gives_empty_buckets() -> None:
    assert [count for _, count in Latency().buckets()] == [0] * (len(BOUNDS) + 1)
