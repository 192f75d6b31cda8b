"""Conditions over groups become a table over their mask."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.rules.conditions import NO_CASE, Conditions
from sidecar.rules.counters import ConditionError

GROUPS = ("a", "b", "c", "d")


def table(*texts: str) -> tuple[int, ...]:
    conditions = Conditions(GROUPS)
    for text in texts:
        conditions.add(text)
    return conditions.table()


expressions = st.recursive(
    st.sampled_from(GROUPS),
    lambda inner: st.tuples(inner, st.sampled_from(("and", "or")), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=8,
)


@given(expressions)
def test_the_table_says_what_the_condition_says(text: str) -> None:
    made = table(text)

    for mask in range(16):
        facts = {group: bool(mask >> bit & 1) for bit, group in enumerate(GROUPS)}
        assert (made[mask] == 0) == eval(text, {}, facts)  # noqa: S307 - Python's own and/or is the oracle


@given(expressions)
def test_adding_a_group_never_ends_a_case(text: str) -> None:
    made = table(text)

    assert all(made[mask | 1 << bit] == 0 for mask in range(16) if made[mask] == 0 for bit in range(4))


def test_the_first_condition_that_holds_wins() -> None:
    made = table("a and b", "a")

    assert tuple(made[:4]) == (NO_CASE, 1, NO_CASE, 0)


@pytest.mark.parametrize("needed", [1, 2, 3, 4])
def test_at_least_n_of_counts_the_groups_that_are_there(needed: int) -> None:
    made = table(f"at least {needed} of (a, b, c, d)")

    assert all((made[mask] == 0) == (mask.bit_count() >= needed) for mask in range(16))


def test_at_least_n_of_takes_conditions_and_stands_in_conditions() -> None:
    made = table("a and at least 2 of (b, c and d, at least 1 of (a, d))")

    assert [mask for mask in range(16) if made[mask] == 0] == [0b0011, 0b0111, 0b1011, 0b1101, 0b1111]


def test_and_binds_closer_than_or() -> None:
    made = table("a or b and c")

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
        ("1", "`1` at character 1: only `and`, `or`, brackets and names of groups are allowed"),
        ("a & b", "`a & b` at character 1: only .* did you mean `and`\\?"),
        ("a and (b | c)", "`b | c` at character 8: only .* did you mean `or`\\?"),
        ("a * b + c", "did you mean `or`\\?"),
        ("a and TRUE", "unknown group 'TRUE'"),
        ("a or True", "`True` at character 6"),
        ("a AND b", "the operators are `and` and `or`, did you mean `and`\\?"),
        ("a && b", "the operators are `and` and `or`, did you mean `and`\\?"),
        ("a adn b", "unknown word 'adn', did you mean 'and'\\?"),
        ("alpha and b", "unknown group 'alpha'"),
        ("a if b else c", "only `and`, `or`"),
        ("a == b", "only `and`, `or`"),
        ("a.b", "only `and`, `or`"),
        ("f(a)", "only `and`, `or`"),
        ("(lambda: a)", "only `and`, `or`"),
        ("at least 3 of (a, b)", "`at least 3 of` 2 groups can never be true"),
        ("at least 0 of (a, b)", "only `and`, `or`"),
        ("at least 2 of a, b", "such as `at least 2 of \\(a, b, c\\)`"),
        ("2 of (a, b)", "such as `at least 2 of \\(a, b, c\\)`"),
        ("at least 2 of (a, e)", "unknown group 'e'"),
        ("a\x00", "is not a condition"),
        ("(" * 900 + "a" + ")" * 900, "is not a condition"),
        ("a and " * 500 + "a", "is longer than 2000 characters"),
    ],
)
def test_a_wrong_condition_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(ConditionError, match=problem):
        table(text)


def test_a_condition_may_span_lines() -> None:
    assert table("a\n  and b") == table("a and b")


@given(st.text(alphabet="abcd()&|+* notrue1=,.[]{}'\"\n", max_size=40))
def test_any_text_is_a_condition_or_is_refused_as_one(text: str) -> None:
    with contextlib.suppress(ConditionError):
        assert table(text)[0] == NO_CASE
