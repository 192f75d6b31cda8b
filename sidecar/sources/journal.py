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
from collections.abc import Callable
from pathlib import Path

from sidecar.alerts.decode import MAX_BYTES
from sidecar.alerts.framing import Unwrapper
from sidecar.settings.sources import JournalSource
from sidecar.storage.state import Position

log = logging.getLogger(__name__)

CHUNK = MAX_BYTES
"""Read at once; a line longer than this is not an alert and is skipped."""

LINGER = 2.0
"""Seconds that a rotated file is watched after its end was reached."""

COMPRESSED = frozenset((".gz", ".xz", ".zst", ".bz2"))

Take = Callable[[list[bytes], Position], None]


class Journal:
    """The file at `path`, read on from `start` (None: from the beginning). `timer` counts seconds."""

    def __init__(self, path: Path, start: Position | None, timer: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._start = start
        self._timer = timer
        self._file: io.BufferedReader | None = None
        self._rotated_later = 0
        self._finished = 0
        self.lost_files = 0
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
        plan = self._plan()  # made for each file, since a rotation in between changes the names
        if not plan:
            return False
        path, self._offset = plan[0]
        self._rotated_later = len(plan) - 2
        self._file = path.open("rb")
        self._inode = os.fstat(self._file.fileno()).st_ino
        self._start = None
        self._rotated_at = None
        return True

    def _plan(self) -> list[tuple[Path, int]]:
        """The files to read, each from an offset: from where it was read last, over all rotated since, to `path`."""
        current = [(self._path, 0)] if self._path.exists() else []
        last = self._start or (Position(self._finished, 0) if self._finished else None)
        if last is None:
            return current
        rotated = self._rotated()
        for index, file in enumerate(rotated):
            if file.stat().st_ino == last.inode:
                own = [(file, last.offset)] if self._start is not None else []
                return own + [(later, 0) for later in self._readable(rotated[index + 1 :])] + current
        if current and self._path.stat().st_ino == last.inode:
            return self._after_truncation(last.offset, rotated)
        if current and self._start is not None:
            self._note_lost("the file that was read last is gone")
        return current

    def _after_truncation(self, offset: int, rotated: list[Path]) -> list[tuple[Path, int]]:
        """Read on in the file at `path`, or, if it was truncated, first in the copy that was made of it."""
        if self._path.stat().st_size >= offset:
            return [(self._path, offset)]
        copies = [file for file in rotated if file.stat().st_size >= offset]
        if not copies:
            self._note_lost("the file was truncated, and there is no copy of it")
        return [(copy, offset) for copy in self._readable(copies[-1:])] + [(self._path, 0)]

    def _rotated(self) -> list[Path]:
        """What was rotated away, the oldest first."""
        others = [file for file in self._path.parent.glob(f"{self._path.name}?*") if file.is_file()]
        return sorted(others, key=lambda file: (file.stat().st_mtime_ns, file.name))

    def _readable(self, files: list[Path]) -> list[Path]:
        for file in files:
            if file.suffix in COMPRESSED:
                self._note_lost(f"{file.name} is compressed")
        return [file for file in files if file.suffix not in COMPRESSED]

    def _note_lost(self, reason: str) -> None:
        self.lost_files += 1
        log.error("alerts of the journal may be lost", extra={"path": str(self._path), "reason": reason})

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
        if self._rotated_later > 0:  # Falco may still write to the newest that was rotated, but to no older one
            self._finish()
            return
        self._rotated_at = self._rotated_at if self._rotated_at is not None else self._timer()
        if self._timer() - self._rotated_at >= LINGER:
            self._finish()

    def _finish(self) -> None:
        self._finished = self._inode
        self.close()


class JournalTail:
    """Follows the journal from the event loop and gives lines, with the position after them, to `take`."""

    def __init__(self, settings: JournalSource, start: Position | None, take: Take) -> None:
        self.journal = Journal(Path(settings.path), start)
        self._poll = settings.poll_interval.seconds
        self._take = take
        self._unwrap = Unwrapper()
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
                self._take(list(filter(None, map(self._unwrap, lines))), self.journal.position)
            await asyncio.sleep(0 if lines else self._poll)
