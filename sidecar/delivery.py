"""The stage around every sink: one notification at a time and in order, tried until the sink takes it.

A slow or dead sink holds up nobody but itself: not the ingest, not another sink.
"""

import logging

import tenacity

from sidecar.errors import Refused, SinkError
from sidecar.model import Message
from sidecar.sinks import Sink
from sidecar.workqueue import WorkQueue

log = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0
"""Seconds between two tries, at most."""


class Delivery(WorkQueue[Message]):
    """A sink with its queue. Outcomes: sent, refused (for good), failed (will be tried again), dropped."""

    def __init__(self, sink: Sink, room: int) -> None:
        super().__init__(f"sink {sink.name}", room)
        self.sink = sink

    async def carry(self, item: Message) -> str:
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
            return "refused"
        return "sent"

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
