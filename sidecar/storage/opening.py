"""Opens the state file: its lock, its schema, and what happens when it is damaged or must not be used.

A damaged file of ours is set aside, and a new one is created. A problem that starting again would not solve (a newer
schema, another program's database, another instance, no permission) ends the start. Only with a disk that is full or
fails, the service continues in memory.
"""

import contextlib
import errno
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 176 * 1024 * 1024
"""The maximum size of the database: beyond it writing fails as on a full disk."""

MAX_WAL_BYTES = 16 * 1024 * 1024

MAX_KEPT_DAMAGED_BYTES = 32 * 1024 * 1024
"""A larger damaged file is deleted: with a new file beside it, it would fill a volume of 256 MiB."""

PATIENCE_SECONDS = 30.0
"""How long a start waits for the previous instance to exit."""

WAIT_FOR_LOCK_SECONDS = 0.02
"""How long a statement waits for another program's lock on the file."""

DISK_FAILURES = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE))


class StateError(Exception):
    """The state file must not be used, and starting again would not help. The text is the reason."""


class DiskError(StateError):
    """The disk prevents using the state file; the service can continue in memory."""


def lock(path: Path, patience: float = PATIENCE_SECONDS) -> int:
    """Take the lock beside the state file and return its descriptor; waits `patience` seconds for another instance.

    Raises:
        StateError: another instance holds it, or the folder cannot be written.
        DiskError: the disk is full or fails.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path, error) from None
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise StateError(
                    f"{path}: another instance is using this state file; end it, or give each a file of its own"
                ) from None
            time.sleep(0.1)
        else:
            return descriptor


def open_database(path: Path, steps: Sequence[str], ours: frozenset[str]) -> tuple[sqlite3.Connection, str]:
    """Open the file and bring an older schema up to date.

    `steps` are the statements from each schema to the next, `ours` the tables of every schema. The second value
    describes what was done with a damaged file, "" if it was not damaged. Raises StateError and DiskError as `lock`.
    """
    try:
        return _connected(path, steps, ours), ""
    except (sqlite3.OperationalError, OSError) as error:
        raise _unusable(path, error) from None
    except (
        sqlite3.DatabaseError,
        UnicodeDecodeError,
    ) as error:  # sqlite3 quotes damaged names in messages
        aside = _set_aside(path)
        log.error("the state file is damaged, starting with a new one", extra={"error": str(error), "file": aside})  # noqa: TRY400
        return _connected(path, steps, ours), aside


def refuse_unusable(path: Path, steps: Sequence[str], ours: frozenset[str], patience: float = PATIENCE_SECONDS) -> None:
    """Check, before any port is open, whether a start with this file can succeed at all.

    Raises:
        StateError: it cannot. A disk that fails and a damaged file do not raise this.
    """
    try:
        descriptor = lock(path.with_suffix(path.suffix + ".lock"), patience)
    except DiskError:
        return
    try:
        if path.exists() and not path.is_file():
            raise StateError(f"{path}: is not a regular file; choose another")
        _refuse_foreign(path)
        if path.is_file() and path.stat().st_size:
            with contextlib.closing(sqlite3.connect(path)) as db:
                _version(db, path, steps, ours)
    except (sqlite3.Error, UnicodeDecodeError, DiskError):
        return
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit everything that is written within, or roll it all back."""
    if db.in_transaction:  # a part of a larger one
        yield
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a disk that is full has done it already
            db.execute("ROLLBACK")
        raise


def _unusable(path: Path, error: Exception) -> StateError:
    if isinstance(error, OSError):
        kind = DiskError if error.errno in DISK_FAILURES else StateError
        return kind(f"{path}: {error.strerror}{_remedy(path, error.errno)}")
    failed = getattr(error, "sqlite_errorcode", 0) & 0xFF
    kind = DiskError if failed in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY) else StateError
    return kind(f"{path}: {error}")


def _refuse_foreign(path: Path) -> None:
    """Raise StateError if this user may not write to the file, those beside it, or their folder."""
    if os.statvfs(path.parent).f_flag & os.ST_RDONLY:  # as a disk that fails
        return
    for each in (path.parent, *(path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", ".ring"))):
        if each.exists() and not os.access(each, os.R_OK | os.W_OK):
            raise StateError(
                f"{each}: user id {os.geteuid()} may not write to it; change its owner, or choose another file"
            )


def _remedy(path: Path, number: int | None) -> str:
    """What to do about an error, to be appended to its text; "" if that depends."""
    if number in (errno.ENOENT, errno.ENOTDIR):
        return f": {path.parent} is not a directory; create it, or choose another file"
    if number in (errno.EACCES, errno.EPERM):
        return f": user id {os.geteuid()} needs to write to {path.parent}; change its owner, or choose another file"
    return ""


def _set_aside(path: Path) -> str:
    """Move a damaged file out of the way, or delete it if it is too large to keep; returns what was done.

    Only one is kept: the one before it is deleted.
    """
    for older in path.parent.glob(f"{path.name}.corrupt-*"):
        older.unlink(missing_ok=True)
    aside = path.with_name(f"{path.name}.corrupt-{int(time.time())}")
    path.rename(aside)
    for leftover in ("-wal", "-shm"):
        path.with_name(path.name + leftover).unlink(missing_ok=True)
    if aside.stat().st_size > MAX_KEPT_DAMAGED_BYTES:
        aside.unlink()
        return "deleted, being too large to keep,"
    return f"moved to {aside}"


def _connected(path: Path, steps: Sequence[str], ours: frozenset[str]) -> sqlite3.Connection:
    if path.exists() and not path.is_file():
        raise StateError(f"{path}: is not a regular file; choose another")
    path.touch(0o600)
    db = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
    try:
        db.text_factory = _text
        _prepare(db, path, steps, ours)
        db.execute(f"PRAGMA busy_timeout = {int(WAIT_FOR_LOCK_SECONDS * 1000)}")
    except BaseException:
        db.close()
        raise
    return db


def rewritten(db: sqlite3.Connection, path: Path, steps: Sequence[str], ours: frozenset[str]) -> sqlite3.Connection:
    """Write the content of an open database, whose file is gone, to the path again. Raises as `open_database`.

    The old connection stays as it is, until all of it is in the new file and that is open.
    """
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(fresh)) as copy:  # not in WAL mode: the log would be as large again
            db.backup(copy)
        for leftover in ("-wal", "-shm"):
            path.with_name(path.name + leftover).unlink(missing_ok=True)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return open_database(path, steps, ours)[0]


def holds(descriptor: int, path: Path) -> bool:
    """Whether the lock that was taken on this file is still the one at the path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def open_reader(path: Path) -> sqlite3.Connection:
    """A second connection, for the event loop: a read waits neither for a write nor for a sync.

    Raises sqlite3.Error.
    """
    db = sqlite3.connect(path, isolation_level=None, timeout=WAIT_FOR_LOCK_SECONDS, check_same_thread=False)
    db.text_factory = _text
    return db


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _version(db: sqlite3.Connection, path: Path, steps: Sequence[str], ours: frozenset[str]) -> int:
    """The schema of the file, 0 for a new one. Raises StateError, and sqlite3.DatabaseError if it is damaged."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(steps):
        raise StateError(
            f"{path}: was written by a newer version (schema {version}, this one reads {len(steps)}); install that, or "
            "move the file away to start without its incidents"
        )
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if version <= 0 and tables:
        if not tables & ours:
            names = ", ".join(sorted(tables))
            raise StateError(f"{path}: is the database of another program (tables {names}); choose another file")
        raise sqlite3.DatabaseError(f"schema {version} with tables")
    return max(version, 0)


def _prepare(db: sqlite3.Connection, path: Path, steps: Sequence[str], ours: frozenset[str]) -> None:
    version = _version(db, path, steps, ours)
    if version == 0:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    (page_size,) = db.execute("PRAGMA page_size").fetchone()
    db.execute(f"PRAGMA max_page_count = {MAX_FILE_BYTES // page_size}")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA journal_size_limit = {MAX_WAL_BYTES}")
    db.execute("PRAGMA synchronous = NORMAL")
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    if version < len(steps):
        with transaction(db):
            for statement in filter(str.strip, ";".join(steps[version:]).split(";")):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(steps)}")
