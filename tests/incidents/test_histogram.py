"""How many incidents there were when, and of which severity."""

from sidecar.incidents.histogram import DAY, HOUR, MAX_BARS, histogram, severities

NOON = 1_795_521_600 * 10**9
"""2026-11-24T12:00:00Z."""


def at(hours: float) -> int:
    return NOON + int(hours * HOUR * 10**9)


def test_the_bars_cover_all_time_and_each_incident_is_in_one() -> None:
    made = histogram([(4, at(-20.5)), (2, at(-2.5)), (2, at(-2.2)), (1, at(-0.1))], 0, at(0))

    assert made is not None
    assert (made.seconds, len(made.bars)) == (HOUR, 21)
    assert made.bars[0].start.startswith("2026-11-23T15:00:00")
    assert {number: bar.counts for number, bar in enumerate(made.bars) if bar.counts} == {
        0: {"critical": 1},
        18: {"medium": 2},
        20: {"low": 1},
    }


def test_a_bar_is_as_short_as_the_time_allows() -> None:
    lengths = [
        (made.seconds, len(made.bars))
        for days in (0.01, 1.5, 30)
        if (made := histogram([(1, at(-24 * days))], 0, at(0)))
    ]

    assert all(count <= MAX_BARS for _, count in lengths)
    assert [seconds for seconds, _ in lengths] == [60, 3 * HOUR, 2 * DAY]


def test_what_was_asked_for_is_covered_even_where_nothing_happened() -> None:
    made = histogram([(1, at(-1))], at(-12), at(0))

    assert made is not None
    assert len(made.bars) == 12
    assert histogram([], at(-12), at(0)) is None


def test_a_time_ahead_of_the_clock_counts_for_the_last_bar() -> None:
    made = histogram([(3, at(0.01)), (3, at(-1))], 0, at(0))

    assert made is not None
    assert sum(bar.counts.get("high", 0) for bar in made.bars) == 2


def test_severities_are_counted_the_most_severe_first() -> None:
    assert severities([(2, 0), (4, 0), (2, 0)]) == {"critical": 1, "high": 0, "medium": 2, "low": 0}
