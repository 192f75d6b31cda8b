"""Follows the file of Falco's file_output: the only source that covers the time when this service is not running.

Falco writes the file before it posts, so together with HTTP it leaves no gap; an alert that arrives both ways is a
duplicate. The position is stored in the same transaction as the alerts before it. Rotation by rename and by truncation
are both handled: a renamed file is read for a while longer, because Falco keeps writing to it until it reloads. An
incomplete last line is left until it is complete.
"""

import asyncio
import io
import logging
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from sidecar.alerts.decode import MAX_BYTES
from sidecar.alerts.framing import Unwrapper
from sidecar.settings.sources import JournalSourceSettings
from sidecar.storage.state import Position

log = logging.getLogger(__name__)

CHUNK_BYTES = MAX_BYTES
"""Read at once. A longer line is not an alert and is skipped."""

LINGER_SECONDS = 2.0
"""How long a rotated file is followed after its end was reached."""

MARK_BYTES = 256
"""Before a position: a file in which they have changed is another one, whatever its inode and size."""

COMPRESSED_SUFFIXES = frozenset((".gz", ".xz", ".zst", ".bz2"))

Take = Callable[[list[bytes], Position], None]


class Journal:
    """Reads the file at `path` from `start` on (None: from the beginning). `timer` is in seconds.

    `lost_files` counts rotated files that could not be read, `skipped` lines that were too long.
    """

    def __init__(self, path: Path, start: Position | None, timer: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._start = start
        self._timer = timer
        self._file: io.BufferedReader | None = None
        self._rotated_later = 0
        self._finished = 0
        self.lost_files = 0
        self._inode = 0
        self._offset = 0
        self._before = b""
        self._rotated_at: float | None = None
        self.skipped = 0

    @property
    def position(self) -> Position:
        """The start of the next line."""
        return Position(self._inode, self._offset, _mark(self._before))

    def read(self) -> list[bytes]:
        """The next complete lines, [] if there are none yet."""
        if self._file is None and not self._open():
            return []
        assert self._file is not None  # noqa: S101 - `_open` returned True
        self._file.seek(self._offset - len(self._before))
        before = self._file.read(len(self._before))
        data = self._file.read(CHUNK_BYTES)
        if before != self._before:  # truncated, and perhaps longer again by now
            self._start = self.position
            self.close()
            return []
        end = data.rfind(b"\n") + 1
        if end:
            self._advance(data[:end])
            self._rotated_at = None
            return [line for line in data[:end].split(b"\n") if line]
        if len(data) == CHUNK_BYTES:
            self.skipped += 1
            self._advance(data)
            log.warning("a line of the journal is too long for an alert", extra={"path": str(self._path)})
        else:
            self._look_for_rotation()
        return []

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _advance(self, data: bytes) -> None:
        self._offset += len(data)
        self._before = (self._before + data[-MARK_BYTES:])[-MARK_BYTES:]

    def _open(self) -> bool:
        plan = self._plan()  # again for each file, since a rotation in between changes the names
        if not plan:
            return False
        path, self._offset = plan[0]
        self._rotated_later = len(plan) - 2
        self._file = path.open("rb")
        self._before = _before(self._file, self._offset)
        self._inode = os.fstat(self._file.fileno()).st_ino
        self._start = None
        self._rotated_at = None
        return True

    def _plan(self) -> list[tuple[Path, int]]:
        """The files to read with their offsets, from the one that was read last to the one at `path`."""
        current = [(self._path, 0)] if self._path.exists() else []
        last = self._start or (Position(self._finished, 0) if self._finished else None)
        if last is None:
            return current
        rotated = self._rotated()
        for index, file in enumerate(rotated):
            if file.stat().st_ino == last.inode and _continues(file, last):
                own = [(file, last.offset)] if self._start is not None else []
                return own + [(later, 0) for later in self._readable(rotated[index + 1 :])] + current
        if current and self._path.stat().st_ino == last.inode:
            return self._after_truncation(last, rotated)
        if current and self._start is not None:
            self._note_lost("the file that was being read is gone")
        return current

    def _after_truncation(self, last: Position, rotated: list[Path]) -> list[tuple[Path, int]]:
        """The file at `path`; if it was truncated, the copy of its old content comes first."""
        if _continues(self._path, last):
            return [(self._path, last.offset)]
        copies = [file for file in rotated if _continues(file, last)]
        if not copies:
            self._note_lost("the file was truncated, and there is no copy of it")
        return [(copy, last.offset) for copy in self._readable(copies[-1:])] + [(self._path, 0)]

    def _rotated(self) -> list[Path]:
        """Files that were rotated, oldest first."""
        others = [file for file in self._path.parent.glob(f"{self._path.name}?*") if file.is_file()]
        return sorted(others, key=lambda file: (file.stat().st_mtime_ns, file.name))

    def _readable(self, files: list[Path]) -> list[Path]:
        for file in files:
            if file.suffix in COMPRESSED_SUFFIXES:
                self._note_lost(f"{file.name} is compressed")
        return [file for file in files if file.suffix not in COMPRESSED_SUFFIXES]

    def _note_lost(self, reason: str) -> None:
        self.lost_files += 1
        log.error("alerts of the journal may be lost", extra={"path": str(self._path), "reason": reason})

    def _look_for_rotation(self) -> None:
        assert self._file is not None  # noqa: S101 - called only while a file is open
        try:
            is_rotated = self._path.stat().st_ino != self._inode
        except FileNotFoundError:
            is_rotated = False
        if not is_rotated:
            return
        if self._rotated_later > 0:  # Falco may still be writing to the newest rotated file, but not to an older one
            self._finish()
            return
        self._rotated_at = self._rotated_at if self._rotated_at is not None else self._timer()
        if self._timer() - self._rotated_at >= LINGER_SECONDS:
            self._finish()

    def _finish(self) -> None:
        self._finished = self._inode
        self.close()


def _before(file: io.BufferedReader, offset: int) -> bytes:
    """The last bytes before a position; fewer if the file is shorter."""
    start = max(offset - MARK_BYTES, 0)
    file.seek(start)
    return file.read(offset - start)


def _mark(before: bytes) -> int:
    """A number that stands for what comes before a position, never 0."""
    return zlib.crc32(before) or 1


def _continues(path: Path, last: Position) -> bool:
    """Whether a file is the one that was read up to a position, or a copy of it."""
    if path.suffix in COMPRESSED_SUFFIXES or path.stat().st_size < last.offset:
        return False
    if not last.mark:  # written by an older version, or by a file that was read to its end
        return True
    with path.open("rb") as file:
        return _mark(_before(file, last.offset)) == last.mark


class JournalTail:
    """Follows the journal on the event loop and passes lines, with the position after them, to `take`.

    It reads no further while `is_behind` says that too much of what was taken is not written yet.
    """

    def __init__(
        self,
        settings: JournalSourceSettings,
        start: Position | None,
        take: Take,
        is_behind: Callable[[], bool] = lambda: False,
    ) -> None:
        self.journal = Journal(Path(settings.path), start)
        self._poll = settings.poll_interval.seconds
        self._take = take
        self._is_behind = is_behind
        self._unwrap = Unwrapper()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start following the file, which need not exist yet."""
        self._task = asyncio.create_task(self._run(), name="journal")

    async def stop(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.journal.close()

    async def _run(self) -> None:
        while True:
            try:
                lines = [] if self._is_behind() else self.journal.read()
            except OSError as error:
                log.warning("the journal cannot be read, trying again", extra={"error": str(error)})
                lines = []
            if lines:
                self._take(list(filter(None, map(self._unwrap, lines))), self.journal.position)
            await asyncio.sleep(0 if lines else self._poll)
