"""Conditions over groups become a table over their mask."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.rules.conditions import NO_CASE, ConditionError, parse, table

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
        ("1", "`1` at character 1: only `and`, `or`, brackets and names of groups are allowed"),
        ("a & b", "`a & b` at character 1: only .* did you mean `and`\\?"),
        ("a and (b | c)", "`b | c` at character 8: only .* did you mean `or`\\?"),
        ("a * b + c", "did you mean `or`\\?"),
        ("a and TRUE", "unknown group 'TRUE'"),
        ("a or True", "`True` at character 6"),
        ("a AND b", "operators are written in lower case, did you mean `and`\\?"),
        ("alpha and b", "unknown group 'alpha'"),
        ("a if b else c", "only `and`, `or`"),
        ("a == b", "only `and`, `or`"),
        ("a.b", "only `and`, `or`"),
        ("f(a)", "only `and`, `or`"),
        ("(lambda: a)", "only `and`, `or`"),
        ("a\x00", "is not a condition"),
        ("(" * 900 + "a" + ")" * 900, "is not a condition"),
        ("a and " * 500 + "a", "is longer than 2000 characters"),
    ],
)
def test_a_wrong_condition_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(ConditionError, match=problem):
        parse(text, GROUPS)


def test_a_condition_may_span_lines() -> None:
    assert table([parse("a\n  and b", GROUPS)], GROUPS) == table([parse("a and b", GROUPS)], GROUPS)


@given(st.text(alphabet="abcd()&|+* notrue1=,.[]{}'\"\n", max_size=40))
def test_any_text_is_a_condition_or_is_refused_as_one(text: str) -> None:
    with contextlib.suppress(ConditionError):
        assert table([parse(text, GROUPS)], GROUPS)[0] == NO_CASE
