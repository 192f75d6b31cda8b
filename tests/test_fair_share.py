"""Only those with most have to give."""

from sidecar.fair_share import largest_fair_share


def test_a_share_takes_only_from_those_with_most() -> None:
    assert largest_fair_share([10, 20, 900], 100) == 70
    assert largest_fair_share([50, 50, 50], 100) == 33
    assert largest_fair_share([1, 2], 100) >= 2
