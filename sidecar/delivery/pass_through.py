"""Raw alerts on to Falcosidekick, the bytes unchanged and the order kept.

Falco has a single http_output, and Falcosidekick usually has it. This service stands in between and must pass on every
alert. So this is a separate queue, never behind correlation or incidents, and malformed alerts are passed on as well.

An alert is queued before Falco gets its answer, in memory and in a ring that survives the worker, and is removed when
Falcosidekick has accepted it: a crash repeats the one that was on its way, and loses none.
"""

import contextlib
import logging
import re
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import msgspec
import tenacity

from sidecar.delivery.stage import MAX_HELD_BYTES, Stage
from sidecar.net.http_client import NO_FILES, Client, Outcome
from sidecar.net.tls_context import ClientFiles
from sidecar.settings.schema import Settings
from sidecar.storage.ring import Ring, open_ring

log = logging.getLogger(__name__)

NOT_THE_ALERT = frozenset((301, 302, 303, 307, 308, 408, 425, 429, 502, 503, 504))
"""Statuses that are about the receiver, whatever the alert: they are retried for MAX_WAIT_SECONDS."""

MAX_WAIT_SECONDS = 300.0

MAX_ATTEMPTS = 7
"""With another 5xx, or a closed connection: the alert itself may be at fault, which another one shows."""

TRIED_INSTEAD = 50
"""Among so many alerts that wait, one of another rule is looked for."""

RULE = re.compile(rb'"rule": ?"([^"]*)"')

PAUSES = tenacity.wait_random_exponential(multiplier=0.1, max=5.0)

LOGGED_AGAIN_SECONDS = 60.0

PROTECTED_AGAIN_SECONDS = 10.0
"""After a ring could not be made again."""


class _Failed(Exception):  # noqa: N818 - never leaves this module
    """An answer that is worth another attempt."""

    def __init__(self, status: int) -> None:
        super().__init__(f"answered {status}")
        self.status = status


class _Waiting(msgspec.Struct, gc=False):
    """An alert in the queue: since when, by the monotonic clock, and the position after it in the ring."""

    body: bytes
    since: float
    until: int
    is_sent: bool = False


def _failure(status: int) -> _Failed | None:
    """Why a status calls for another attempt, if it does."""
    return _Failed(status) if status in NOT_THE_ALERT or status >= 500 else None


class PassThroughQueue(Stage):
    """Alerts on their way. Outcomes: sent, rejected (the receiver refused it), failed (retried), dropped, broken.

    One more outcome, withheld, is counted by the intake. `room` bounds the alerts in the queue; when it is full, by
    number or by bytes, the oldest is dropped and counted, so a receiver cannot delay Falco. `ring` survives the worker;
    `waiting` is what a previous worker left in it.
    """

    def __init__(
        self,
        url: str,
        room: int,
        ring: Ring | None = None,
        waiting: Sequence[tuple[int, bytes]] = (),
        timeout: float = 10.0,
        tls: ClientFiles = NO_FILES,
    ) -> None:
        super().__init__("pass-through")
        self.room = room
        self._client = Client(url, timeout=timeout, tls=tls)
        self._ring = ring
        self._protect_at = 0.0
        self._logged: dict[str, float] = {}
        self._items = deque(_Waiting(body, time.monotonic(), until) for until, body in waiting)
        self._bytes = sum(len(item.body) for item in self._items)
        self._flying: _Waiting | None = None
        """The alert that was sent without the task, while the task waits."""
        self._failure: Exception | None = None
        """Why the oldest alert, which was sent that way, needs the task after all."""
        self._attempts = 0
        self._others_pass = False
        """Whether the receiver accepted another alert since it failed on the oldest."""
        self._is_at_fault = False
        """Whether it failed on the oldest again after that."""
        self._is_patient = True
        """Whether it accepted anything since an alert was given up after MAX_WAIT_SECONDS."""

    @property
    def pending(self) -> int:
        """Alerts that are not passed on yet."""
        return len(self._items)

    @property
    def oldest(self) -> float:
        """Seconds that the oldest alert has been waiting; 0 without one."""
        return time.monotonic() - self._items[0].since if self._items else 0.0

    def start(self) -> None:
        """Begin to send, first what a previous worker left."""
        if self._items:
            log.info("raw alerts wait from before the start", extra={"count": self.pending})
            self._wake()
        super().start()

    def put(self, body: bytes) -> None:
        """Queue an alert, and keep it where it survives the worker."""
        while self._items and self._is_full(len(body)):
            self._pop()
            self._count_dropped()
        self._items.append(_Waiting(body, time.monotonic(), self._keep(body)))
        self._bytes += len(body)
        if self._flying is None and not (self._is_resting and self._send_oldest()):
            self._wake()

    def protect(self) -> None:
        """Put what waits into a new ring if the file of the old one is gone; call it every second or so."""
        now = time.monotonic()
        if self._ring is None or now < self._protect_at or not self._ring.is_gone:
            return
        self._protect_at = now + PROTECTED_AGAIN_SECONDS
        ring, _ = open_ring(self._ring.path, None)
        if ring is None:
            return
        self._ring.close()
        self._ring = ring
        for item in self._items:
            item.until = self._keep(item.body)
        log.warning("the file of raw alerts that wait was deleted while in use; it was written again")

    @property
    def _is_resting(self) -> bool:
        """Whether the task waits for something to do."""
        return self._task is not None and self._drained.is_set()

    def _send_oldest(self) -> bool:
        """Send the oldest alert at once, if the connection is open and free: nearly always. Returns whether it was."""
        item = self._items[0]
        if not self._client.send(item.body, self._answered):
            return False
        self._flying = item
        self._drained.clear()
        return True

    def _answered(self, outcome: Outcome) -> None:
        """Send the next alert; what needs another attempt is left to the task."""
        item, self._flying = self._flying, None
        is_oldest = bool(self._items) and self._items[0] is item  # unless it was dropped meanwhile
        failure = outcome if isinstance(outcome, Exception) else _failure(outcome)
        if isinstance(outcome, int) and failure is None:
            self.counts[self._outcome(outcome)] += 1
            if is_oldest:
                self._pop()
        elif is_oldest:
            self._failure = failure
        if not self._items:
            self._drained.set()
        elif self._failure is not None or not self._send_oldest():
            self._wake()

    def _is_full(self, size: int) -> bool:
        if len(self._items) >= self.room or self._bytes + size > MAX_HELD_BYTES:
            return True
        return self._ring is not None and not self._ring.has_room(size)

    def _keep(self, body: bytes) -> int:
        if self._ring is None:
            return 0
        try:
            return self._ring.add(body)
        except OSError as error:
            self._log("a raw alert cannot be kept: a crash of the worker would lose it", str(error))
            return self._ring.end

    def _pop(self) -> None:
        item = self._items.popleft()
        self._bytes -= len(item.body)
        if self._ring is not None:
            with contextlib.suppress(OSError):  # it would be sent again after a crash
                self._ring.remove(item.until)

    async def work(self) -> None:
        """Pass on the oldest alert."""
        item = self._items[0]
        if item.is_sent:
            self._pop()
            return
        try:
            outcome = await self.carry(item.body)
        except Exception:  # a bug must cost one alert, not the queue
            log.exception("an alert could not be passed through")
            outcome = "broken"
        self.counts[outcome] += 1
        if self._items and self._items[0] is item:
            self._pop()

    async def carry(self, item: bytes) -> str:
        """Send an alert, with retries where another attempt may help."""
        failure, self._failure = self._failure, None
        if failure is not None:
            return await self._again(item, failure)
        try:
            status = await self._post(item)
        except (OSError, _Failed) as error:
            return await self._again(item, error)
        return self._outcome(status)

    def _outcome(self, status: int) -> str:
        return "sent" if status < 300 else self._reject(f"answered {status}")

    async def _post(self, item: bytes) -> int:
        status = await self._client.post(item)
        if (failure := _failure(status)) is not None:
            raise failure
        self._is_patient = True
        return status

    async def _attempt(self, item: bytes) -> int:
        try:
            return await self._post(item)
        except (ConnectionResetError, _Failed) as error:
            if isinstance(error, _Failed) and error.status in NOT_THE_ALERT:
                raise  # another alert would show nothing, and could overtake this one
            self._attempts += 1
            self._is_at_fault = self._others_pass
            self._others_pass |= self._attempts >= MAX_ATTEMPTS - 1 and await self._is_another_accepted()
            raise

    async def _is_another_accepted(self) -> bool:
        """Send another alert that waits: alternately the next one, and the first of another rule."""
        others = [each for each in islice(self._items, 1, TRIED_INSTEAD) if not each.is_sent]
        if not others:
            return False
        rule = RULE.findall(self._items[0].body)
        different = next((each for each in others if RULE.findall(each.body) != rule), others[0])
        other = different if self._attempts % 2 else others[0]
        try:
            status = await self._post(other.body)
        except (OSError, _Failed):
            return False
        other.is_sent = True
        self.counts[self._outcome(status)] += 1
        return True

    def _is_hopeless(self, state: tenacity.RetryCallState) -> bool:
        # Falcosidekick fails on k8s.pod.name that is not text; such an alert would hold up all behind it for ever.
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, (_Failed, ConnectionResetError)):
            return False
        is_over = (state.seconds_since_start or 0.0) >= MAX_WAIT_SECONDS
        self._is_patient = self._is_patient and not is_over
        if isinstance(error, _Failed) and error.status in NOT_THE_ALERT:
            return is_over
        return state.attempt_number >= MAX_ATTEMPTS and (self._is_at_fault or not self._is_patient)

    async def _again(self, item: bytes, error: Exception) -> str:
        self.counts["failed"] += 1
        self._log("pass-through is waiting for its receiver", str(error))
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type((OSError, _Failed)),
            wait=self._pause,
            stop=self._is_hopeless,
            before_sleep=self._failed,
            reraise=True,
        )
        self._attempts, self._others_pass, self._is_at_fault = 0, False, False
        try:
            status: int = await retrying(self._attempt, item)
        except (OSError, _Failed) as last:
            return self._reject(str(last))
        return self._outcome(status)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = self._client.retry_after if isinstance(error, _Failed) else 0.0
        return max(asked, PAUSES(state))

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
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def _failed(self, _: tenacity.RetryCallState) -> None:
        self.counts["failed"] += 1


def pass_through(settings: Settings, ring: Path | None, shared: int | None) -> PassThroughQueue | None:
    """The queue that the settings ask for; only alerts from HTTP can be passed on unchanged.

    `ring` is the file for what waits, `shared` the descriptor of memory that the parent process holds; see `open_ring`.
    """
    url = settings.pass_through.url or settings.sinks.falcosidekick.url
    if settings.pass_through.mode == "none" or not url or not settings.http.enabled:
        return None
    tls = settings.sinks.falcosidekick.tls.files()
    return PassThroughQueue(url, settings.pass_through.queue_size, *open_ring(ring, shared), tls=tls)
