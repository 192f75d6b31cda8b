"""When Python looks for reference cycles: seldom, since a look at 20,000 containers stops everything for 300 ms.

What is forgotten holds no cycles (a test sees to it), so counting references frees it. asyncio's connections do; most
are collected young, and what is left of 10,000 to 100,000 of them brings a full collection.
"""

import gc

SELDOM = 100
"""Collections of the middle generation for a full one: that is after 700,000 new objects that stay."""


def collect_seldom() -> None:
    """Call it when everything is loaded: what exists now is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], SELDOM)
