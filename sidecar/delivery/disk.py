"""Where the work on the state file is done: beside the event loop, which must never wait for a disk.

A full sync can take seconds, and so can another program's lock. Falco would wait as long for its answer.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")

WRITE_AFTER_SECONDS = 0.02
"""Alerts that come within are written together."""


class Disk(Protocol):
    """Runs jobs one after the other, in order."""

    def run(self, job: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """Do a job, and give `done` what it returned or raised."""
        ...

    def soon(self, callback: Callable[[], None]) -> None:
        """Call back after WRITE_AFTER_SECONDS."""
        ...


class AtOnce:
    """Does each job when it is asked to: for a start, which has nobody to answer yet, and for its end."""

    def run(self, job: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """As `Disk.run`, before it returns."""
        done(_outcome(job))

    def soon(self, callback: Callable[[], None]) -> None:
        """Call back before it returns."""
        callback()


class DiskThread:
    """Does the jobs in one thread; `done` is called on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._executor = ThreadPoolExecutor(1, "disk")
        self._is_stopped = False

    def run(self, job: Callable[[], T], done: Callable[[T | Exception], None]) -> None:
        """As `Disk.run`; once it is stopped, as `AtOnce`."""
        if self._is_stopped:
            done(_outcome(job))
            return
        self._executor.submit(lambda: self._loop.call_soon_threadsafe(done, _outcome(job)))

    def soon(self, callback: Callable[[], None]) -> None:
        """As `Disk.soon`."""
        self._loop.call_later(WRITE_AFTER_SECONDS, callback)

    async def stop(self) -> None:
        """Wait for the job that runs, and end the thread."""
        self._is_stopped = True
        await asyncio.to_thread(self._executor.shutdown)


def _outcome(job: Callable[[], T]) -> T | Exception:
    try:
        return job()
    except Exception as error:
        return error
