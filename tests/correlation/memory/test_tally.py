"""Values are counted within a time, whatever the order they come in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.correlation.memory.tally import MAX_COMPARED, MAX_PARTS, PARTS, Tally
from sidecar.rules.counters import Counter

SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND

sightings = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 5), st.sampled_from((1, 2))), max_size=40)


def different(count: int, seconds: int = 8) -> Tally:
    counter = Counter("file", ("a", "b"), count, seconds * SECOND)
    return Tally(counter, 0b11, counter.within // PARTS)


def same() -> Tally:
    return Tally(Counter("file", ("a", "b")), 0b11, SECOND)


def fed(tally: Tally, seen: list[tuple[int, int, int]]) -> int:
    return max((tally.add(START + second * SECOND, value, groups) for second, value, groups in seen), default=0)


def windows(seen: list[tuple[int, int, int]]) -> list[list[tuple[int, int, int]]]:
    """What lies in each window of PARTS seconds."""
    return [[each for each in seen if first <= each[0] < first + PARTS] for first in range(-PARTS, 16)]


@given(sightings, st.integers(2, 4))
def test_different_values_count_if_enough_of_them_lie_within_the_time(seen: list[tuple[int, int, int]], n: int) -> None:
    true_in = [window for window in windows(seen) if len({value for _, value, _ in window}) >= n]

    assert bool(fed(different(n), seen)) == bool(true_in)


@given(sightings)
def test_one_value_counts_if_it_lies_in_each_group_within_the_time(seen: list[tuple[int, int, int]]) -> None:
    pairs = [{(value, groups) for _, value, groups in window} for window in windows(seen)]

    assert bool(fed(same(), seen)) == any(
        (value, 1) in pair and (value, 2) in pair for pair in pairs for value, _ in pair
    )


@given(sightings.flatmap(lambda seen: st.tuples(st.just(seen), st.permutations(seen))), st.integers(2, 4))
def test_the_order_changes_nothing(both: tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]], n: int) -> None:
    seen, shuffled = both

    assert fed(different(n), seen) == fed(different(n), shuffled + seen)
    assert fed(same(), seen) == fed(same(), shuffled)


def test_it_is_true_at_its_newest_sighting() -> None:
    tally = different(2)
    tally.add(START + 3 * SECOND, 1, 1)

    assert tally.add(START, 2, 1) == START + 3 * SECOND


def test_a_flood_of_values_takes_no_more_room_than_the_condition_needs() -> None:
    tally = different(50)
    for value in range(10_000):
        tally.add(START + value * SECOND // 100, value, 1)

    assert tally.size <= 50 * MAX_PARTS
    assert tally.shed == 0


def test_values_to_compare_beyond_the_limit_are_given_up_and_counted() -> None:
    tally = same()
    for value in range(MAX_COMPARED + 5):
        tally.add(START, value, 1)

    assert (tally.size, tally.shed) == (MAX_COMPARED, 5)


@pytest.mark.parametrize("late", [MAX_PARTS, MAX_PARTS * 1000])
def test_what_comes_long_after_its_time_is_given_up_and_counted(late: int) -> None:
    tally = different(2)
    tally.add(START + late * SECOND, 1, 1)

    assert (tally.add(START, 2, 1), tally.size, tally.shed) == (0, 1, 1)


def test_two_contexts_that_merge_count_together() -> None:
    tally, other = different(2), different(2)
    tally.add(START, 1, 1)
    other.add(START + SECOND, 2, 1)

    assert tally.absorb(other) == START + SECOND


def test_clearing_gives_up_all_of_it_and_counts_that() -> None:
    tally = different(3)
    fed(tally, [(0, 1, 1), (1, 2, 1)])

    tally.clear()

    assert (tally.size, tally.shed, tally.add(START, 3, 1)) == (0, 2, 0)
