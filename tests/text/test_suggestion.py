"""A misspelt name is answered with the one that was meant."""

from sidecar.text.suggestion import did_you_mean, nearest

KNOWN = ("network", "credential", "web_shell")


def test_the_nearest_known_word_is_suggested() -> None:
    assert did_you_mean("netwrok", KNOWN) == ", did you mean 'network'?"


def test_nothing_is_suggested_where_nothing_is_like_it() -> None:
    assert did_you_mean("persistence_of_time", ("web_shell",)) == ""


def test_a_higher_cutoff_asks_for_more_likeness() -> None:
    assert (nearest("net", KNOWN, 0.9), nearest("networks", KNOWN, 0.9)) == ("", "network")
