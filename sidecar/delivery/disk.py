"""Where the work on the state file is done: beside the event loop, which must never wait for a disk; and its troubles.

A full sync can take seconds, and so can another program's lock. Falco would wait as long for its answer.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

WRITE_AFTER_SECONDS = 0.02
"""Alerts that come within are written together."""

REPORTED_AGAIN_SECONDS = 600.0
"""A disk that is nearly full fails and works alternately."""

RETRY_SECONDS = 0.25
MAX_RETRY_SECONDS = 5.0
"""How long a file that failed is left alone."""


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


class Trouble:
    """`reason` says why the state file is not used, "" while it is.

    `on_report` is called with a sentence, at most once in REPORTED_AGAIN_SECONDS about the same subject.
    """

    def __init__(self, timer: Callable[[], float]) -> None:
        self.reason = ""
        self.on_report: Callable[[str], None] | None = None
        self._timer = timer
        self._reported: dict[str, float] = {}
        self._retry_at = 0.0
        self._pause = RETRY_SECONDS

    def __bool__(self) -> bool:
        return bool(self.reason)

    @property
    def is_over_or_due(self) -> bool:
        """Whether the file is to be used, or to be tried again."""
        return not self.reason or self._timer() >= self._retry_at

    def begin(self, error: Exception) -> None:
        """Note that the file failed."""
        if not self.reason:
            log.error("the state file cannot be used, continuing in memory", extra={"error": str(error)})
            self.report("trouble", f"the state file cannot be used, continuing in memory: {error}")
        else:
            self._pause = min(2 * self._pause, MAX_RETRY_SECONDS)
        self.reason = str(error) or type(error).__name__
        self._retry_at = self._timer() + self._pause

    def try_now(self) -> None:
        """Use the file at the next opportunity."""
        self._retry_at = self._timer()

    def end(self) -> None:
        """Note that the file can be used."""
        if self.reason:
            log.warning("the state file can be used again")
            self.reason = ""
            self._pause = RETRY_SECONDS

    def report(self, subject: str, sentence: str) -> None:
        """Report a sentence, unless one about this subject was reported a short time ago."""
        now = self._timer()
        if self.on_report is not None and now - self._reported.get(subject, -math.inf) > REPORTED_AGAIN_SECONDS:
            self._reported[subject] = now
            self.on_report(sentence)
