"""The incidents of a running service as somebody who looks wants them: in full, with what changed since the last step.

An incident that rises is kept when that is decided. What happens to it in silence (repeats, more evidence) is picked up
here now and then, and when somebody looks: the way of an alert pays one entry in a dictionary for it.
"""

import asyncio
import time

from sidecar.correlation.pipeline import Pipeline
from sidecar.delivery.outbox import Outbox
from sidecar.storage.archive import Archive

EVERY, SOON = 1.0, 0.1
"""Seconds between two looks at what changed; the shorter pause while there is much."""

BATCH = 5
"""Changed incidents that are kept at once: a look must not hold up alerts."""

SHARE = 200
"""Times as long as a look took there is a pause, so all of them take half a percent of a core at the most."""

LONGEST = 10.0
"""Seconds of a pause, though: a look that waited for the disk says nothing about the next."""


class Incidents:
    """Gives the archive, up to date."""

    def __init__(self, pipeline: Pipeline, outbox: Outbox) -> None:
        self._pipeline = pipeline
        self._outbox = outbox
        self._next: asyncio.TimerHandle | None = None
        pipeline.correlator.updated = {}

    def start(self) -> None:
        """Begin to pick up what changes."""
        began = time.perf_counter()
        try:
            self.refresh()
        finally:  # one that fails is not the last
            pause = SOON if self._pipeline.correlator.updated else EVERY
            pause = max(pause, min(SHARE * (time.perf_counter() - began), LONGEST))
            self._next = asyncio.get_running_loop().call_later(pause, self.start)

    def stop(self) -> None:
        """Pick up the last changes, and end."""
        if self._next is not None:
            self._next.cancel()
        self.refresh()

    def refresh(self, prefix: str = "") -> None:
        """Keep what changed without a notification; of the one whose id begins so in any case."""
        news = self._pipeline.correlator.updated_incidents(BATCH, prefix)
        lost, self._pipeline.hosts_with_drops = [*self._pipeline.hosts_with_drops], set()
        if news or lost:
            self._outbox.refresh(news, lost, time.time_ns())

    def current(self, prefix: str = "") -> Archive:
        """The archive, with all that is known by now of the one whose id begins so."""
        self.refresh(prefix)
        return self._outbox.archive
