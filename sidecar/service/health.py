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


CONFIRMATIONS = 2
"""Canaries in a row that must fail: under load, one alert may come late or be dropped."""

SETTLE_SECONDS = 300.0
"""How long Falco's first alert is waited for after a start: at an installation or upgrade Falco may start later."""


class Health:
    """`degraded` is the cause, "" while all is well. `traffic` returns totals, `report` sends a report.

    `node` is the name of the node in reports, `patience` is in seconds.
    """

    def __init__(
        self,
        settings: CanarySettings,
        canary: Canary,
        *,
        traffic: Callable[[], Traffic],
        report: Callable[[Report], None],
        node: str = "",
        patience: float = TIMEOUT_SECONDS,
    ) -> None:
        self.degraded = ""
        self._every = settings.interval.seconds
        self._canary = canary
        self._traffic = traffic
        self._report = report
        self._node = node
        self._patience = patience
        self.to_settle = SETTLE_SECONDS
        """Seconds until Falco's silence counts as one."""
        self._failures = 0
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
            self._judge(self._confirmed(self._canary.diagnosis(since)))
            await asyncio.sleep(max(self._every - self._patience, 0))
            self.to_settle -= self._every

    def _confirmed(self, verdict: str) -> str:
        """The verdict, or what was known before it while it may be by chance, or while Falco may still be starting."""
        self._failures = self._failures + 1 if verdict else 0
        is_starting = self.to_settle > 0 and not any(self._traffic())
        return self.degraded if verdict and (is_starting or self._failures < CONFIRMATIONS) else verdict

    def _judge(self, verdict: str) -> None:
        if verdict and verdict != self.degraded:
            log.error("degraded", extra={"cause": verdict})
            self._report(degraded(verdict, self._node))
        elif self.degraded and not verdict:
            log.warning("no longer degraded")
        self.degraded = verdict


def degraded(text: str, node: str = "") -> Report:
    """The report that something in the service, or on the path to it, does not work; by default on this host."""
    host = node or os.uname().nodename
    where = Where(host, "", "", "", "", "")
    return Report("Correlator degraded", "high", f"{text} (node {host})", where, time.time_ns())


async def _start_marker(nonce: str) -> None:
    """Start a process with the marker among its arguments, which listens for a moment so that our marker rule fires."""
    try:
        await asyncio.to_thread(subprocess.run, [sys.executable, "-S", marker.__file__, MARKER + nonce], check=False)
    except OSError as error:
        log.warning("the canary could not be started", extra={"error": str(error)})
