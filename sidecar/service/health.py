"""Starts the canary regularly, and reports when the path from Falco to this service breaks and works again."""

import asyncio
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable

from sidecar import marker
from sidecar.alerts.canary import MARKER, TIMEOUT_SECONDS, Canary, Traffic
from sidecar.model import Report, Where
from sidecar.settings.schema import CanarySettings

log = logging.getLogger(__name__)


class Health:
    """`degraded` is the cause, "" while all is well. `traffic` returns totals, `report` sends a report."""

    def __init__(
        self,
        settings: CanarySettings,
        canary: Canary,
        *,
        traffic: Callable[[], Traffic],
        report: Callable[[Report], None],
        patience: float = TIMEOUT_SECONDS,
    ) -> None:
        self.degraded = ""
        self._every = settings.interval.seconds
        self._canary = canary
        self._traffic = traffic
        self._report = report
        self._patience = patience
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the first canary, and then one in each interval."""
        self._task = asyncio.create_task(self._run(), name="canary")

    async def stop(self) -> None:
        """Stop starting canaries."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            before = self._traffic()
            nonce = os.urandom(8).hex()
            self._canary.record_sent(nonce)
            await _start_marker(nonce)
            await asyncio.sleep(self._patience)
            since = Traffic(*(now - then for now, then in zip(self._traffic(), before, strict=True)))
            self._judge(self._canary.diagnosis(since))
            await asyncio.sleep(max(self._every - self._patience, 0))

    def _judge(self, verdict: str) -> None:
        if verdict and verdict != self.degraded:
            log.error("degraded", extra={"cause": verdict})
            self._report(degraded(verdict))
        elif self.degraded and not verdict:
            log.warning("no longer degraded")
        self.degraded = verdict


def degraded(text: str) -> Report:
    """The report that something in the service, or on the path to it, does not work."""
    return Report("Correlator degraded", "high", text, Where(os.uname().nodename, "", "", "", "", ""), time.time_ns())


async def _start_marker(nonce: str) -> None:
    """Start a process with the marker among its arguments, which listens for a moment so that our marker rule fires."""
    try:
        await asyncio.to_thread(subprocess.run, [sys.executable, "-S", marker.__file__, MARKER + nonce], check=False)
    except OSError as error:
        log.warning("the canary could not be started", extra={"error": str(error)})
