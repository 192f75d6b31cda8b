"""The stage around every sink: one notification at a time and in order, tried until the sink takes it.

A slow or dead sink holds up nobody but itself: not the ingest, not another sink.
"""

import logging
from collections.abc import Callable

import tenacity

from sidecar.delivery.work_queue import WorkQueue
from sidecar.errors import Refused, SinkError
from sidecar.sinks import Outgoing, Sink

log = logging.getLogger(__name__)

LONGEST_PAUSE = 10.0
"""Seconds between two tries, at most."""


class Delivery(WorkQueue[Outgoing]):
    """A sink with its queue. Outcomes: sent, refused (for good), failed (will be tried again), dropped."""

    def __init__(self, sink: Sink, room: int) -> None:
        super().__init__(f"sink {sink.name}", room)
        self.sink = sink
        self.on_done: Callable[[str], None] | None = None
        """Told the key of what the sink took, or refused for good."""
        self.refill: Callable[[Delivery], bool] | None = None
        """Puts more when the queue, once full, has run empty; says whether there is still more."""
        self.left_out = False
        """Whether the state file has more for this sink than the queue."""

    async def carry(self, item: Outgoing) -> str:
        """Try without end; only a sink that says it will never take it is believed."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, SinkError) and not isinstance(e, Refused)),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=LONGEST_PAUSE),
            before_sleep=self._failed,
        )
        try:
            await retrying(self.sink.send, item)
        except Refused as error:
            log.warning("sink refused a notification", extra={"sink": self.sink.name, "error": str(error)})
            return self._done(item, "refused")
        return self._done(item, "sent")

    def put(self, item: Outgoing) -> None:
        """Queue one. What the queue has no room for stays in the state file, if there is one."""
        if self.refill is not None and self.pending >= self.room:
            self.left_out = True
        else:
            super().put(item)

    def _done(self, item: Outgoing, outcome: str) -> str:
        if self.on_done is not None:
            self.on_done(item.key)
        if self.left_out and self.pending <= 1 and self.refill is not None:
            self.left_out = self.refill(self)
        return outcome

    async def stop(self, grace: float) -> None:
        """Deliver what is decided for up to `grace` seconds, then end."""
        await super().stop(grace)
        self.sink.close()

    def _failed(self, state: tenacity.RetryCallState) -> None:
        self.counts["failed"] += 1
        error = state.outcome.exception() if state.outcome else None
        log.warning(
            "sink did not take a notification, trying again", extra={"sink": self.sink.name, "error": str(error)}
        )
