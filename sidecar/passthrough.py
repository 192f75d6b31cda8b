"""Raw alerts on to Falcosidekick, the bytes unchanged and the order kept.

Falco has a single http_output, and Falcosidekick usually has it. Standing in between, we owe the user every alert that
he had before: so this is a queue of its own, never behind correlation or incidents, and a malformed alert goes on too.
"""

import logging

import tenacity

from sidecar.http_client import Client
from sidecar.workqueue import WorkQueue

log = logging.getLogger(__name__)

HUNG_UP = 599
"""In place of a status: the receiver closes the connection whenever it gets this alert."""

PATIENCE = 4
"""Tries before that is believed."""


class PassThroughQueue(WorkQueue[bytes]):
    """Alerts on their way. Outcomes: sent, rejected (the receiver said no), failed (tried again), dropped."""

    def __init__(self, url: str, room: int, timeout: float = 10.0) -> None:
        super().__init__("pass-through", room)
        self._client = Client(url, timeout=timeout)

    def weigh(self, item: bytes) -> int:
        """Bytes of the alert."""
        return len(item)

    async def carry(self, item: bytes) -> str:
        """Try until there is an answer."""
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(OSError),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=5.0),
            stop=_hung_up_for_good,
            before_sleep=self._failed,
            retry_error_callback=lambda _: HUNG_UP,
        )
        status: int = await retrying(self._client.post, item)
        return "sent" if 200 <= status < 300 else "rejected"

    async def stop(self, grace: float) -> None:
        """Forward what is queued for up to `grace` seconds, then end."""
        await super().stop(grace)
        self._client.close()

    def _failed(self, state: tenacity.RetryCallState) -> None:
        self.counts["failed"] += 1
        if state.attempt_number == 1:
            error = state.outcome.exception() if state.outcome else None
            log.warning("pass-through is waiting for its receiver", extra={"error": str(error)})


def _hung_up_for_good(state: tenacity.RetryCallState) -> bool:
    # Falcosidekick dies on k8s.pod.name that is not text; such an alert would hold up all behind it for ever.
    error = state.outcome.exception() if state.outcome else None
    return isinstance(error, ConnectionResetError) and state.attempt_number >= PATIENCE
