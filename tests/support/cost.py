"""CPU time as a multiple of this machine's own speed, so that a limit on it holds on a slow or busy machine too."""

import time
from collections.abc import Callable
from functools import cache


def cpu_seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """The CPU time of this process in the cheapest of some rounds."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


@cache
def millisecond() -> float:
    """CPU seconds of a fixed piece of work: a millisecond on a machine of 2024."""
    return cpu_seconds(lambda: sum(number * number for number in range(20_000)), 20)


def cost(work: Callable[[], object], rounds: int = 3) -> float:
    """What a piece of work costs, in milliseconds of a machine of 2024."""
    return cpu_seconds(work, rounds) / millisecond()
