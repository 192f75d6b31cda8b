"""Keeps the archive of incidents up to date with what changed since their last step.

A step of an incident is archived when it is decided. What happens between steps (repeats, more evidence) costs an alert
one entry in a dictionary, and is archived here: from time to time, and when a page is requested.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from sidecar.correlation.pipeline import Pipeline
from sidecar.model import Notification
from sidecar.storage.archive import Archive

PAUSE_SECONDS = 1.0
"""Between two refreshes."""

SHORT_PAUSE_SECONDS = 0.1
"""Between two refreshes while there is more to archive."""

MAX_INCIDENTS = 5
"""Archived by one refresh, which must not delay alerts."""

PAUSE_FACTOR = 200
"""A pause is this many times as long as the refresh took, so that all of them take half a percent of a core at most."""

MAX_PAUSE_SECONDS = 10.0
"""Limit of that: a refresh that waited for the disk says nothing about the next one."""


class Keeper(Protocol):
    """Where incidents are archived."""

    def refresh(self, incidents: Sequence[Notification], lost: Sequence[str], now: int) -> None: ...

    @property
    def archive(self) -> Archive: ...


class IncidentRefresh:
    """Gives the archive, up to date. `clock` is in seconds; `call_later` is that of the event loop unless given."""

    def __init__(
        self,
        pipeline: Pipeline,
        keeper: Keeper,
        *,
        clock: Callable[[], float] = time.perf_counter,
        call_later: Callable[[float, Callable[[], None]], Any] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._keeper = keeper
        self._clock = clock
        self._call_later = call_later
        self._next: Any = None
        pipeline.correlator.updated = {}

    def start(self) -> None:
        """Refresh now, and again after a pause."""
        began = self._clock()
        try:
            self.refresh()
        finally:  # one that fails is not the last
            pause = SHORT_PAUSE_SECONDS if self._pipeline.correlator.updated else PAUSE_SECONDS
            pause = max(pause, min(PAUSE_FACTOR * (self._clock() - began), MAX_PAUSE_SECONDS))
            call_later = self._call_later or asyncio.get_running_loop().call_later
            self._next = call_later(pause, self.start)

    def stop(self) -> None:
        """Archive the last changes, and end."""
        if self._next is not None:
            self._next.cancel()
        self.refresh()

    def refresh(self, prefix: str = "") -> None:
        """Archive what changed without a notification; the incident whose ID begins with `prefix` in any case."""
        incidents = self._pipeline.correlator.updated_incidents(MAX_INCIDENTS, prefix)
        lost = list(self._pipeline.hosts_with_drops)
        self._pipeline.hosts_with_drops = set()
        if incidents or lost:
            self._keeper.refresh(incidents, lost, time.time_ns())

    def current(self, prefix: str = "") -> Archive:
        """The archive, with all that is known by now of the incident whose ID begins with `prefix`."""
        self.refresh(prefix)
        return self._keeper.archive
