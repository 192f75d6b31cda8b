"""What waits (raw alerts for Falcosidekick, relevant ones for the state file), kept so that it survives a crash.

The file is a ring of records. A position counts all bytes that were ever written and is stored with each record, so a
record that an earlier turn left behind is never taken for a new one. Nothing here waits for the disk: what is written
is in the page cache, which a crash of the process does not touch. A power failure can lose the last seconds.
"""

import logging
import os
import struct
import zlib
from pathlib import Path

log = logging.getLogger(__name__)

MAX_RING_BYTES = 16 * 1024 * 1024
"""Of the file with raw alerts that wait for Falcosidekick."""

MAX_ALERT_RING_BYTES = 7 * 1024 * 1024
"""Of the file with relevant alerts that are not in the state file yet."""

HEAD = struct.Struct("<QI")
"""At the beginning of the file: the position of the oldest record, and its checksum."""

RECORD = struct.Struct("<QII")
"""Before each body: the position of the record, the length of the body, and the checksum of both."""

RECORDS_AT = 4096


class Ring:
    """Records in a file that is open for reading and writing, at `path` if it has one; `capacity` is in bytes.

    All methods raise OSError when the disk fails.
    """

    def __init__(self, descriptor: int, capacity: int = MAX_RING_BYTES - RECORDS_AT, path: Path | None = None) -> None:
        self._file = descriptor
        self.path = path
        self._capacity = capacity
        self._oldest = self.end = 0
        """`end` is the position after the newest record."""

    def recover(self) -> list[tuple[int, bytes]]:
        """Each record that was not removed, the oldest first: the position after it and its body. Call it first."""
        self._oldest = self.end = self._read_head()
        found = []
        while (record := self._read(self.end) or self._read(self._next_turn(self.end))) is not None:
            self.end = record[0]
            found.append(record)
        return found

    def has_room(self, size: int) -> bool:
        """Whether a body of `size` bytes fits without overwriting a record."""
        return self._place(size) + RECORD.size + size - self._oldest <= self._capacity

    def add(self, body: bytes) -> int:
        """Write a record and return the position after it; there must be room for it."""
        position = self._place(len(body))
        length = len(body)
        head = RECORD.pack(position, length, _checksum(position, body))
        written = os.pwritev(self._file, (head, body), RECORDS_AT + position % self._capacity)
        if written < RECORD.size + length:
            raise OSError("the record could not be written whole")
        self.end = position + RECORD.size + length
        return self.end

    def remove(self, until: int) -> None:
        """Remove the records before a position; when none is left, the next one is written at the beginning."""
        if until >= self.end and self.end % self._capacity:
            # A ring that is empty most of the time then uses the same few pages again and again.
            until = self.end = self._next_turn(self.end)
        self._oldest = until
        os.pwrite(self._file, HEAD.pack(until, zlib.crc32(until.to_bytes(8, "little"))), 0)

    @property
    def is_gone(self) -> bool:
        """Whether the file was deleted or replaced."""
        if self.path is None:
            return False
        try:
            return not os.path.samestat(self.path.stat(), os.fstat(self._file))
        except OSError:
            return True

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _place(self, size: int) -> int:
        """Where a body of `size` bytes goes: no record is split at the end of the ring."""
        end = self.end
        if end % self._capacity + RECORD.size + size > self._capacity:
            return self._next_turn(end)
        return end

    def _next_turn(self, position: int) -> int:
        return (position // self._capacity + 1) * self._capacity

    def _read_head(self) -> int:
        stored = os.pread(self._file, HEAD.size, 0)
        if len(stored) < HEAD.size:
            return 0
        position, checksum = HEAD.unpack(stored)
        return position if checksum == zlib.crc32(stored[:8]) else 0

    def _read(self, position: int) -> tuple[int, bytes] | None:
        at = RECORDS_AT + position % self._capacity
        head = os.pread(self._file, RECORD.size, at)
        if len(head) < RECORD.size:
            return None
        stored, length, checksum = RECORD.unpack(head)
        if stored != position or length > self._capacity:
            return None
        body = os.pread(self._file, length, at + RECORD.size)
        if len(body) < length or checksum != _checksum(position, body):
            return None
        return position + RECORD.size + length, body


def _checksum(position: int, body: bytes) -> int:
    return zlib.crc32(body, ~position & 0xFFFFFFFF)  # inverted, so that zeros are not an empty record at position 0


def open_ring(
    path: Path | None, shared: int | None, capacity: int = MAX_RING_BYTES - RECORDS_AT
) -> tuple[Ring | None, list[tuple[int, bytes]]]:
    """The ring to use, and the records in it: at `path`, otherwise in the shared memory of a descriptor, if any.

    What is left in the memory from a time when the file could not be used is moved into the file.
    """
    memory = Ring(shared, capacity) if shared is not None else None
    waiting = memory.recover() if memory is not None else []
    if path is None:
        return memory, waiting
    try:
        ring = Ring(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), capacity, path)
        found = ring.recover()
        for _, body in waiting:
            if ring.has_room(len(body)):
                found.append((ring.add(body), body))
        if memory is not None:
            memory.remove(memory.end)
    except OSError as error:
        log.error("a file for what waits cannot be used", extra={"error": str(error), "file": str(path)})  # noqa: TRY400
        return memory, waiting
    return ring, found
