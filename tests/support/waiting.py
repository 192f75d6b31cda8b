"""Waiting in tests: for something to become true, with a deadline, never for a fixed time."""

import asyncio
import time
from collections.abc import Callable

DEADLINE_SECONDS = 60.0
"""Long enough for a machine five times slower than a developer's that runs several suites at once. A test that fails
waits this long once, a test that passes never."""

POLL_SECONDS = 0.005


def wait_until(holds: Callable[[], object], seconds: float = DEADLINE_SECONDS, why: str = "") -> None:
    """Return as soon as `holds()` is true. Raises AssertionError, with `why`, if it is not within `seconds`."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise AssertionError(why or f"not true within {seconds} s: {holds}")
        time.sleep(POLL_SECONDS)


async def until_true(holds: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """The same on an event loop. Raises AssertionError if it is not true within `seconds`."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise AssertionError(f"not true within {seconds} s: {holds}")
        await asyncio.sleep(POLL_SECONDS)
