"""Falco's file_output, followed from where it was read last: the only source that covers times when we do not run.

Falco writes the file before it posts, so beside HTTP it closes every gap; an alert that arrives both ways is a
duplicate. The position goes into the state file in the same transaction as the alerts before it. Rotation by rename and
by truncation are both handled: a renamed file is read for a while longer, because Falco keeps writing to it until it
reloads. An incomplete last line waits for its end.
"""

import asyncio
import io
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sidecar.alerts.decode import MAX_BYTES
from sidecar.settings.sources import JournalSource
from sidecar.storage.state import Position

log = logging.getLogger(__name__)

CHUNK = MAX_BYTES
"""Read at once; a line longer than this is not an alert and is skipped."""

LINGER = 2.0
"""Seconds that a rotated file is watched after its end was reached."""

Take = Callable[[list[bytes], Position], None]


class Journal:
    """The file at `path`, read on from `start` (None: from the beginning). `timer` counts seconds."""

    def __init__(self, path: Path, start: Position | None, timer: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._start = start
        self._timer = timer
        self._file: io.BufferedReader | None = None
        self._inode = self._offset = 0
        self._rotated_at: float | None = None
        self.skipped = 0

    @property
    def position(self) -> Position:
        """Where the next line begins."""
        return Position(self._inode, self._offset)

    def read(self) -> list[bytes]:
        """The next complete lines; [] if there are none now."""
        if self._file is None and not self._open():
            return []
        assert self._file is not None  # noqa: S101 - _open said so
        self._file.seek(self._offset)
        data = self._file.read(CHUNK)
        end = data.rfind(b"\n") + 1
        if end:
            self._offset += end
            self._rotated_at = None
            return [line for line in data[:end].split(b"\n") if line]
        if len(data) == CHUNK:
            self.skipped += 1
            self._offset += CHUNK
        else:
            self._look_for_rotation()
        return []

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> bool:
        path = next(self._candidates(), None)
        if path is None:
            return False
        self._file = path.open("rb")
        inode = os.fstat(self._file.fileno()).st_ino
        resumed = self._start is not None and self._start.inode == inode
        self._inode = inode
        self._offset = self._start.offset if self._start is not None and resumed else 0
        self._start = None
        self._rotated_at = None
        return True

    def _candidates(self) -> Iterator[Path]:
        """The file that was read last under whatever name it has now, then the one at `path`."""
        if self._start is not None:
            for other in sorted(self._path.parent.glob(f"{self._path.name}*")):
                if other.stat().st_ino == self._start.inode:
                    yield other
        if self._path.exists():
            yield self._path

    def _look_for_rotation(self) -> None:
        assert self._file is not None  # noqa: S101 - only asked while a file is open
        if os.fstat(self._file.fileno()).st_size < self._offset:
            self._offset = 0
            return
        try:
            moved = self._path.stat().st_ino != self._inode
        except FileNotFoundError:
            moved = False
        if not moved:
            return
        self._rotated_at = self._rotated_at if self._rotated_at is not None else self._timer()
        if self._timer() - self._rotated_at >= LINGER:
            self.close()


class JournalTail:
    """Follows the journal from the event loop and gives lines, with the position after them, to `take`."""

    def __init__(self, settings: JournalSource, start: Position | None, take: Take) -> None:
        self.journal = Journal(Path(settings.path), start)
        self._poll = settings.poll_interval.seconds
        self._take = take
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow; a file that is not there yet is waited for."""
        self._task = asyncio.create_task(self._run(), name="journal")

    async def stop(self) -> None:
        """Read no further."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.journal.close()

    async def _run(self) -> None:
        while True:
            try:
                lines = self.journal.read()
            except OSError as error:
                log.warning("the journal cannot be read, trying again", extra={"error": str(error)})
                lines = []
            if lines:
                self._take(lines, self.journal.position)
            await asyncio.sleep(0 if lines else self._poll)
