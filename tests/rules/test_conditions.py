"""Conditions over groups become a table over their mask."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.rules.conditions import NO_CASE, parse, table

GROUPS = ("a", "b", "c", "d")

expressions = st.recursive(
    st.sampled_from(GROUPS),
    lambda inner: st.tuples(inner, st.sampled_from(("and", "or")), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=8,
)


@given(expressions)
def test_the_table_says_what_the_condition_says(text: str) -> None:
    made = table([parse(text, GROUPS)], GROUPS)

    for mask in range(16):
        facts = {group: bool(mask >> bit & 1) for bit, group in enumerate(GROUPS)}
        assert (made[mask] == 0) == eval(text, {}, facts)  # noqa: S307 - Python's own and/or is the oracle


@given(expressions)
def test_adding_a_group_never_ends_a_case(text: str) -> None:
    made = table([parse(text, GROUPS)], GROUPS)

    assert all(made[mask | 1 << bit] == 0 for mask in range(16) if made[mask] == 0 for bit in range(4))


def test_the_first_condition_that_holds_wins() -> None:
    made = table([parse("a and b", GROUPS), parse("a", GROUPS)], GROUPS)

    assert tuple(made[:4]) == (NO_CASE, 1, NO_CASE, 0)


def test_and_binds_closer_than_or() -> None:
    made = table([parse("a or b and c", GROUPS)], GROUPS)

    assert (made[0b0001], made[0b0010]) == (0, NO_CASE)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a and", "is not a condition"),
        ("", "is not a condition"),
        ("(a or b", "is not a condition"),
        ("a b", "is not a condition"),
        ("a and e", "unknown group 'e' \\(known: a, b, c, d\\)"),
        ("not a", "`not` is not allowed"),
        ("a and not b", "`not` is not allowed"),
        ("1", "names no group"),
    ],
)
def test_a_wrong_condition_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(text, GROUPS)
