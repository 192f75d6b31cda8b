"""Conditions that count or compare are taken out of the text, and say what is wrong with them."""

import pytest

from sidecar.rules.conditions import NO_CASE, Conditions
from sidecar.rules.counters import ConditionError, CounterParser

GROUPS = ("a", "b", "c", "d")


def test_a_counter_is_one_more_bit_and_the_same_in_every_case() -> None:
    conditions = Conditions(GROUPS)
    conditions.add("a and 3 different file within 10m of (b, c)")
    conditions.add("3 different  file within 10m of (b, c) or same remote in (a, b)")

    made = conditions.table()

    assert [str(each) for each in conditions.counters] == [
        "3 different file within 10m of (b, c)",
        "same remote in (a, b)",
    ]
    assert len(made) == 64
    assert (made[0b000001], made[0b010001], made[0b010000], made[0b100000]) == (NO_CASE, 0, 1, 1)


def test_a_name_of_the_same_length_stands_in_for_a_counter() -> None:
    line = "a and same file in (a, b) or c"

    plain = CounterParser(GROUPS).take_out(line)

    assert (len(plain), plain.split()) == (len(line), ["a", "and", "_counter_0", "or", "c"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("3 different file of (a)", "such as `5 different file within 10m of \\(a\\)`"),
        ("3 different files within 1m of (a)", "unknown field 'files', did you mean 'file'\\? \\(known: command, file"),
        ("3 different file within soon of (a)", "expected a duration"),
        ("1 different file within 1m of (a)", "must be between 2 and 100"),
        ("3 different file within 1m of (e)", "unknown group 'e'"),
        ("3 different file within 1m of ()", "no groups are named"),
        ("same file in (a)", "needs two groups, such as `same file in \\(a, b\\)`"),
        ("same file of (a, b)", "such as `same file in \\(a, b\\)`"),
        ("a and same file in (a, b) b", "such as `same file in"),
    ],
)
def test_a_wrong_counter_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(ConditionError, match=problem):
        Conditions(GROUPS).add(text)
