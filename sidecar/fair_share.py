"""How much each may keep of what all share, so that only those with most have to give."""

from collections.abc import Iterable


def largest_fair_share(used: Iterable[int], budget: int) -> int:
    """The maximum that each may keep so that all together stay within the budget; those that use less keep everything.

    >>> largest_fair_share([10, 20, 900], 100)
    70
    """
    remaining = budget
    share = 0
    sizes = sorted(used)
    for index, size in enumerate(sizes):
        share = remaining // (len(sizes) - index)
        if size > share:
            return share
        remaining -= size
    return max(share, sizes[-1] if sizes else 0)
