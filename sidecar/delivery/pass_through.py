"""Raw alerts on to Falcosidekick, the bytes unchanged and the order kept.

Falco has a single http_output, and Falcosidekick usually has it. This service stands in between and must pass on every
alert. So this is a separate queue, never behind correlation or incidents, and malformed alerts are passed on as well.
"""

import logging
import time

import tenacity

from sidecar.delivery.work_queue import WorkQueue
from sidecar.net.http_client import Client
from sidecar.settings.schema import Settings

log = logging.getLogger(__name__)

NOT_THE_ALERT = frozenset((301, 302, 303, 307, 308, 408, 425, 429, 502, 503, 504))
"""Statuses that are about the receiver, whatever the alert: they are retried for MAX_WAIT_SECONDS."""

MAX_WAIT_SECONDS = 300.0

MAX_ATTEMPTS = 7
"""With another 5xx, or a closed connection: the alert itself may be what the receiver fails on."""

LOGGED_AGAIN_SECONDS = 60.0


class _Failed(Exception):  # noqa: N818 - never leaves this module
    """An answer that is worth another attempt."""

    def __init__(self, status: int) -> None:
        super().__init__(f"answered {status}")
        self.status = status


class PassThroughQueue(WorkQueue[bytes]):
    """Alerts on their way. Outcomes: sent, rejected (the receiver refused it), failed (retried), dropped."""

    def __init__(self, url: str, room: int, timeout: float = 10.0) -> None:
        super().__init__("pass-through", room)
        self._client = Client(url, timeout=timeout)
        self._logged: dict[str, float] = {}

    def weigh(self, item: bytes) -> int:
        """Bytes of the alert."""
        return len(item)

    async def carry(self, item: bytes) -> str:
        """Send an alert, with retries where another attempt may help."""
        try:
            status = await self._post(item)
        except (OSError, _Failed) as error:
            return await self._again(item, error)
        return "sent" if status < 300 else self._reject(f"answered {status}")

    async def _post(self, item: bytes) -> int:
        status = await self._client.post(item)
        if status in NOT_THE_ALERT or status >= 500:
            raise _Failed(status)
        return status

    async def _again(self, item: bytes, error: Exception) -> str:
        self.counts["failed"] += 1
        self._log("pass-through is waiting for its receiver", str(error))
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type((OSError, _Failed)),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=5.0),
            stop=_is_hopeless,
            before_sleep=self._failed,
            reraise=True,
        )
        try:
            status: int = await retrying(self._post, item)
        except (OSError, _Failed) as last:
            return self._reject(str(last))
        return "sent" if status < 300 else self._reject(f"answered {status}")

    def _reject(self, reason: str) -> str:
        self._log("an alert could not be passed through and is given up", reason)
        return "rejected"

    def _log(self, message: str, reason: str) -> None:
        """Log a kind of trouble at most once in LOGGED_AGAIN_SECONDS: there may be thousands of alerts."""
        now = time.monotonic()
        if now - self._logged.get(message, -LOGGED_AGAIN_SECONDS) >= LOGGED_AGAIN_SECONDS:
            self._logged[message] = now
            counts = {outcome: self.counts[outcome] for outcome in ("failed", "rejected")}
            log.warning(message, extra={"error": reason, **counts})

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


def _is_hopeless(state: tenacity.RetryCallState) -> bool:
    # Falcosidekick dies on k8s.pod.name that is not text; such an alert would hold up all behind it for ever.
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _Failed) and error.status in NOT_THE_ALERT:
        return (state.seconds_since_start or 0.0) >= MAX_WAIT_SECONDS
    return isinstance(error, (_Failed, ConnectionResetError)) and state.attempt_number >= MAX_ATTEMPTS
