"""A dictionary that forgets: against a model, and at its edges."""

from conftest import Clock
from hypothesis import given
from hypothesis import strategies as st

from sidecar.aging_dict import AgingDict


@given(st.lists(st.integers(0, 30), max_size=300))
def test_it_keeps_the_half_room_used_last_and_never_exceeds_its_room(keys: list[int]) -> None:
    kept: AgingDict[int, int] = AgingDict(10, 100, lambda: 0.0)
    used: list[int] = []
    for key in keys:
        if kept.get(key) is None:
            kept[key] = key
        used = [k for k in used if k != key] + [key]

        assert len(kept) == len(set(kept)) <= 10
        assert all(k in kept for k in used[-5:])


def test_what_was_not_used_is_forgotten_after_its_time(clock: Clock) -> None:
    kept: AgingDict[str, int] = AgingDict(10, 100, clock)
    kept["old"] = kept["used"] = 1
    for clock.now in (51.0, 102.0):
        kept.expire()
        kept.get("used")

    assert (kept.get("old"), kept.get("used")) == (None, 1)


def test_after_a_long_silence_everything_is_forgotten(clock: Clock) -> None:
    kept: AgingDict[str, int] = AgingDict(10, 100, clock)
    kept["a"] = 1
    clock.now = 1000
    kept.expire()

    assert ("a" in kept, len(kept)) == (False, 0)


def test_half_can_be_forgotten_at_once() -> None:
    kept: AgingDict[int, int] = AgingDict(10, 100, lambda: 0.0)
    for key in range(10):
        kept[key] = key
    kept.evict_old()

    assert list(kept) == [5, 6, 7, 8, 9]
