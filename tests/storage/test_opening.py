"""The state file is deleted, replaced or locked while it is in use, and nothing that was kept is lost.

Covers: `storage.opening`.
"""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Clock
from support.messages import note
from support.outage import DownAndUp

from sidecar.delivery.outbox import Outbox
from sidecar.delivery.sink_queue import Delivery
from sidecar.model import Alert, Fields
from sidecar.storage.opening import lock
from sidecar.storage.state import State, StateError

ALERT = Alert(0, "node-1", "rule", (), Fields())


class Life:
    """A state file in a folder of its own, with an outbox on a clock that the test turns."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.reports = Clock(), list[str]()
        self.state = State(folder / "state.db", keep=3600)
        self.delivery = Delivery(DownAndUp(), 10, self.clock)
        self.outbox = Outbox(self.state, [self.delivery], timer=self.clock)
        self.outbox.trouble.on_report = self.reports.append

    def remember(self, *names: bytes) -> None:
        for name in names:
            self.outbox.remember(name, ALERT)

    def check(self) -> None:
        self.clock.now += 10
        self.outbox.check()

    def close(self) -> None:
        self.outbox.close()
        self.state.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir()
    return path


@pytest.fixture
def life(folder: Path) -> Iterator[Life]:
    life = Life(folder)
    yield life
    life.close()


def kept(folder: Path) -> list[bytes]:
    with contextlib.closing(sqlite3.connect(folder / "state.db")) as db:
        return [name for (name,) in db.execute("SELECT id FROM alerts ORDER BY rowid")]


def test_a_folder_that_is_removed_and_made_again_holds_everything_again(life: Life, folder: Path) -> None:
    life.remember(b"before")
    life.outbox.decide([note("0" * 16)])
    shutil.rmtree(folder)
    life.check()
    life.remember(b"while it was gone")
    life.outbox.decide([note("1" * 16)])
    trouble = life.outbox.trouble.reason
    folder.mkdir()
    life.check()
    life.check()

    assert trouble
    assert kept(folder) == [b"before", b"while it was gone"]
    assert [row.key for row in life.state.pending("sink")] == [f"{digit * 16}:medium:sink" for digit in "01"]
    assert {file.name for file in folder.iterdir()} >= {"state.db", "state.db.lock", "state.db.alerts"}


def test_a_file_that_is_replaced_by_an_older_copy_is_written_again(life: Life, folder: Path) -> None:
    life.remember(b"old")
    life.check()
    with contextlib.closing(sqlite3.connect(folder / "state.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    shutil.copy(folder / "state.db", folder / "copy")
    life.remember(b"new")
    (folder / "copy").replace(folder / "state.db")
    life.check()
    life.remember(b"newer")

    assert kept(folder) == [b"old", b"new", b"newer"]
    assert life.reports == ["the state file was deleted or replaced while in use; it was written again"]


def test_a_ring_that_is_deleted_is_made_again_with_the_file(folder: Path) -> None:
    life = Life(folder)
    for file in folder.iterdir():
        file.unlink()
    life.check()
    life.remember(b"one")
    life.close()
    again = Life(folder)
    names = [name for name, _ in again.state.recall()]
    again.close()

    assert names == [b"one"]
    assert (folder / "state.db.alerts").exists()


def test_while_another_instance_has_taken_the_place_nothing_is_written_into_its_file(life: Life, folder: Path) -> None:
    life.remember(b"ours")
    shutil.rmtree(folder)
    folder.mkdir()
    other = State(folder / "state.db", keep=3600)
    other.remember(b"theirs", "c", b"{}")
    life.check()
    trouble = life.outbox.trouble.reason
    other.close()

    assert "another instance" in trouble
    assert kept(folder) == [b"theirs"]


def test_the_lock_that_was_deleted_is_taken_again(life: Life, folder: Path) -> None:
    (folder / "state.db.lock").unlink()
    life.check()

    with pytest.raises(StateError, match="another instance"):
        lock(folder / "state.db.lock", patience=0.0)


def test_a_large_file_is_written_again_without_a_log_as_large(life: Life, folder: Path) -> None:
    life.state.remember(b"large", "c", b"x" * 30_000_000)
    for file in folder.glob("state.db*"):
        if not file.name.endswith((".lock", ".alerts")):
            file.unlink()
    life.check()

    assert sum(file.stat().st_size for file in folder.iterdir()) < 40_000_000


def test_a_file_overwritten_in_place_does_not_stop_the_service_and_is_set_aside_by_the_next_start(
    life: Life, folder: Path
) -> None:
    life.remember(*(b"%d" % number for number in range(200)))
    life.check()
    with (folder / "state.db").open("r+b") as file:
        file.write(b"\0" * 200_000)
    life.remember(b"later")
    life.outbox.decide([note("1" * 16)])
    life.check()

    assert life.delivery.pending == 1
