"""Relevant alerts on their way into the state file: in memory, and in a ring that survives this process.

An alert is here from before Falco gets its answer until it is committed, which the event loop does not wait for.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from sidecar.storage.ring import MAX_ALERT_RING_BYTES, RECORDS_AT, open_ring
from sidecar.storage.state import KeptAlert

log = logging.getLogger(__name__)

MAX_UNWRITTEN_BYTES = MAX_ALERT_RING_BYTES
"""Of alerts that wait in memory; beyond it the oldest are given up."""


class Unwritten(NamedTuple):
    """An alert that is not in the file yet, and the position after it in the ring."""

    alert: KeptAlert
    until: int


class UnwrittenAlerts:
    """In the order in which they came; `path` is that of the ring.

    `lost` counts alerts that were given up, `unprotected` those that the ring had no room for.
    """

    def __init__(self, path: Path) -> None:
        self.lost = 0
        self.unprotected = 0
        self._path = path
        self._alerts: deque[Unwritten] = deque()
        self._taken_bytes = 0
        self._bytes = 0
        self._ring, waiting = open_ring(path, None, MAX_ALERT_RING_BYTES - RECORDS_AT)
        for until, record in waiting:
            try:
                self._append(Unwritten(msgspec.msgpack.decode(record, type=KeptAlert), until))
            except msgspec.MsgspecError as error:
                log.warning("an alert that was not written yet cannot be read", extra={"error": str(error)})

    def __iter__(self) -> Iterator[KeptAlert]:
        return iter([alert for alert, _ in self._alerts])

    def __len__(self) -> int:
        return len(self._alerts)

    @property
    def bytes(self) -> int:
        """Of all that is not in the file yet, also on its way."""
        return self._bytes + self._taken_bytes

    def add(self, alert: KeptAlert) -> None:
        """Hold an alert where it survives this process."""
        self._append(Unwritten(alert, self._protected(alert)))

    def protect(self) -> None:
        """Put what waits into a new ring, if the file of the old one is gone or could not be opened."""
        if self._ring is not None and not self._ring.is_gone:
            return
        self.close()
        self._ring, _ = open_ring(self._path, None, MAX_ALERT_RING_BYTES - RECORDS_AT)
        self._alerts = deque(Unwritten(alert, self._protected(alert)) for alert, _ in self._alerts)

    def _protected(self, alert: KeptAlert) -> int:
        """Write an alert to the ring. Returns the position after it."""
        record = msgspec.msgpack.encode(alert)
        until = 0
        if self._ring is not None:
            try:
                until = self._ring.add(record) if self._ring.has_room(len(record)) else 0
            except OSError as error:
                log.debug("the ring of alerts cannot be written", extra={"error": str(error)})
        if not until:
            self.unprotected += 1
            until = self._ring.end if self._ring is not None else 0
        return until

    def take(self) -> list[Unwritten]:
        """All of them, to be written."""
        taken = list(self._alerts)
        self._alerts.clear()
        self._taken_bytes, self._bytes = self._bytes, 0
        return taken

    def put_back(self, taken: Sequence[Unwritten]) -> None:
        """What was taken could not be written."""
        newer = list(self._alerts)
        self._alerts.clear()
        self._taken_bytes = self._bytes = 0
        for each in (*taken, *newer):
            self._append(each)

    def release(self, taken: Sequence[Unwritten]) -> None:
        """What was taken is in the file."""
        self._taken_bytes = 0
        if taken and self._ring is not None:
            try:
                self._ring.remove(taken[-1].until)
            except OSError as error:  # after a crash it is written again, which changes nothing
                log.debug("the ring of alerts cannot be written", extra={"error": str(error)})

    def close(self) -> None:
        """Close the ring."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def _append(self, each: Unwritten) -> None:
        self._alerts.append(each)
        self._bytes += len(each.alert.body)
        while self._bytes > MAX_UNWRITTEN_BYTES:
            self._bytes -= len(self._alerts.popleft().alert.body)
            self.lost += 1
