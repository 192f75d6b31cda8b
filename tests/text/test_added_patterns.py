"""Patterns of a user's own tokens: a subset that takes little time on any text, anything else refused with its reason.

Covers: `text.redaction.added`.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cost import cost

from sidecar.text.redaction import added
from sidecar.text.redaction.patterns import with_added
from sidecar.text.redaction.redactor import Redactor

ACME = added.token("ACME key", "acme_[A-Za-z0-9]{32}", "acme_" + "aB3d" * 8)


def refused(pattern: str, example: str = "acme_x") -> str:
    with pytest.raises(added.BadPatternError) as raised:
        added.token("x", pattern, example)
    return str(raised.value)


def test_a_token_of_ones_own_is_masked_beside_those_that_ship() -> None:
    redact = Redactor("a key", with_added([ACME]))
    line = redact(f"deploy --to eu acme_{'aB3d' * 8} AKIAIOSFODNN7EXAMPLE")

    assert line == f"deploy --to eu {redact.mask('acme_' + 'aB3d' * 8)} {redact.mask('AKIAIOSFODNN7EXAMPLE')}"


def test_what_only_begins_like_it_stays() -> None:
    assert Redactor("a key", with_added([ACME]))("ls acme_short") == "ls acme_short"


@pytest.mark.parametrize(
    ("pattern", "example"),
    [
        (r"acme\.v1\.[\w-]{20,40}", "acme.v1." + "a-" * 12),
        (r"corp-\d{4}-[a-f0-9]{8}", "corp-2024-0123abcd"),
        (r"tok:[A-Z]{3,6}-?[0-9]{10}", "tok:ABCD0123456789"),
        (r"int_\w{16}", "int_0123456789abcdef"),
    ],
)
def test_what_the_subset_has_is_accepted(pattern: str, example: str) -> None:
    assert added.token("x", pattern, example).pattern == pattern


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("acme_.*", "'.' at character 6 is not supported"),
        ("acme_x*", "'*' at character 7 is not supported"),
        ("acme_[a-z]+", "'+' at character 11 is not supported"),
        ("(acme_x)", "'(' at character 1 is not supported"),
        ("acme_|x", "'|' at character 6 is not supported"),
        ("acme_[^a]{4}", "'[' at character 6 is not supported"),
        (r"acme_\s", r"'\\' at character 6 is not supported"),
        ("acme_x{20,40}?", "'?' at character 14 is not supported"),
        ("acme_[z-a]{4}", "bad character range z-a"),
        ("acme_[a--]{4}", "write - and ~ in a class once"),
        ("acme_[a-z]{4,2}", "expected a repetition from low to high"),
        ("acme_[a-z]{999}", "up to 255"),
        ("ab[a-z]{20}", "must start with at least 3 fixed characters"),
        ("a{3}[a-z]{20}", "must start with at least 3 fixed characters"),
        ("", "must start with at least 3 fixed characters"),
        ("acme_[a-z]{1,9}[a-f]{8}", "may match what [a-f] matches after it"),
        ("acme_[a-z]{1,9}-?x", "may match what x matches after it"),
        ("acme_" + "[a-f]" * 32, "has 37 parts, at most 32"),
        ("acme_[0-9]{8}", "does not match the whole of the example 'acme_x'"),
    ],
)
def test_what_could_take_long_or_match_nothing_is_refused_with_the_reason(pattern: str, reason: str) -> None:
    assert reason in refused(pattern)


@given(st.text(alphabet="acme_[]{}?\\wd-z09,.*+()|^$", max_size=30))
def test_any_text_is_a_pattern_or_refused(pattern: str) -> None:
    try:
        made = added.token("x", pattern, "acme_x")
    except added.BadPatternError:
        return
    Redactor("a key", with_added([made]))("some acme_x text")


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["acme_", "acme_a-", "-", "a", " acme_a", "acme_" + "a" * 250 + "-" + "a" * 250 + " "])
def test_no_text_takes_long_with_the_most_expensive_pattern(unit: str) -> None:
    made = added.token("x", "acme_" + "[a-z]{0,255}-" * 12 + "!", "acme_" + "a-" * 12 + "!")
    text = (unit * 16_384)[:16_384]

    assert cost(lambda: Redactor("k", with_added([made]))(text)) < 200
