"""Raw alerts on to Falcosidekick, the bytes unchanged and the order kept.

Falco has a single http_output, and Falcosidekick usually has it. This service stands in between and must pass on every
alert. So this is a separate queue, never behind correlation or incidents, and malformed alerts are passed on as well.
"""

import logging

import tenacity

from sidecar.delivery.work_queue import WorkQueue
from sidecar.net.http_client import Client
from sidecar.settings.schema import Settings

log = logging.getLogger(__name__)

HUNG_UP = 599
"""In place of a status: the receiver closes the connection whenever it gets this alert."""

PATIENCE = 3
"""More tries before that is believed."""


class PassThroughQueue(WorkQueue[bytes]):
    """Alerts on their way. Outcomes: sent, rejected (the receiver refused it), failed (retried), dropped."""

    def __init__(self, url: str, room: int, timeout: float = 10.0) -> None:
        super().__init__("pass-through", room)
        self._client = Client(url, timeout=timeout)

    def weigh(self, item: bytes) -> int:
        """Bytes of the alert."""
        return len(item)

    async def carry(self, item: bytes) -> str:
        """Try until there is an answer."""
        try:
            status = await self._client.post(item)
        except OSError as error:
            status = await self._again(item, error)
        return "sent" if 200 <= status < 300 else "rejected"

    async def _again(self, item: bytes, error: OSError) -> int:
        self.counts["failed"] += 1
        log.warning("pass-through is waiting for its receiver", extra={"error": str(error)})
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(OSError),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=5.0),
            stop=_hung_up_for_good,
            before_sleep=self._failed,
            retry_error_callback=lambda _: HUNG_UP,
        )
        status: int = await retrying(self._client.post, item)
        return status

    async def stop(self, grace: float) -> None:
        """Forward what is queued for up to `grace` seconds, then end."""
        await super().stop(grace)
        self._client.close()

    def _failed(self, _: tenacity.RetryCallState) -> None:
        self.counts["failed"] += 1


def pass_through(settings: Settings) -> PassThroughQueue | None:
    """The queue that the settings ask for; only alerts from HTTP can be passed on unchanged."""
    url = settings.pass_through.url or settings.sinks.falcosidekick.url
    if settings.pass_through.mode == "none" or not url or not settings.http.enabled:
        return None
    return PassThroughQueue(url, settings.pass_through.queue_size)


def _hung_up_for_good(state: tenacity.RetryCallState) -> bool:
    # Falcosidekick dies on k8s.pod.name that is not text; such an alert would hold up all behind it for ever.
    error = state.outcome.exception() if state.outcome else None
    return isinstance(error, ConnectionResetError) and state.attempt_number >= PATIENCE
