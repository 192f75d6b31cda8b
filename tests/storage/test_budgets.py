"""The state file fits the volume that the chart gives it, whatever an attacker writes."""

import contextlib
import re
import sqlite3
from pathlib import Path

import pytest
from conftest import Clock
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.messages import note
from support.outage import DownAndUp, Life

from sidecar.delivery.outbox import Outbox
from sidecar.storage import archive, opening, ring, shares
from sidecar.storage import state as state_module

ROOT = Path(__file__).parents[2]

SHIPPED = int(re.search(r"sizeLimit: (\d+)Mi", (ROOT / "charts/falco-correlator/values.yaml").read_text())[1]) << 20  # type: ignore[index]

HOSTILE = "\\u0001" * 512
"""A text of control characters, as JSON writes it."""


def used(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def test_the_budgets_fit_the_shipped_volume() -> None:
    content = state_module.MAX_ALERT_BYTES + state_module.MAX_OUTBOX_BYTES + archive.MAX_BYTES
    beside = opening.MAX_WAL_BYTES + opening.MAX_KEPT_DAMAGED_BYTES + ring.MAX_RING_BYTES + ring.MAX_ALERT_RING_BYTES

    assert content * 1.25 < opening.MAX_FILE_BYTES
    assert opening.MAX_FILE_BYTES + beside < SHIPPED


@pytest.mark.slow
def test_control_characters_many_incidents_and_a_dead_sink_stay_within_the_shipped_volume(tmp_path: Path) -> None:
    life = Life(tmp_path / "state.db", DownAndUp(), 1000)
    body = ('{"a":"' + 3 * HOSTILE + '"}').encode()
    largest = 0
    for number in range(12_000):  # 118 MB
        life.state.remember(number.to_bytes(16), f"host/{number % 7}", body)
        if number % 1000 == 0:
            largest = max(largest, used(tmp_path))
    for batch in range(0, 16_000, 200):  # 36 MB for the sink
        numbers = range(batch, batch + 200)
        life.outbox.decide([note(f"{number:016x}", container=f"{number:0250}", pod="p" * 250) for number in numbers])
        largest = max(largest, used(tmp_path))
    life.outbox.check()
    largest = max(largest, used(tmp_path))
    life.state.close()

    assert life.outbox.trouble.reason == ""
    assert life.delivery.counts["dropped"] > 0
    assert life.state.alerts > 4000
    assert largest < SHIPPED


def test_at_80_percent_it_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "MAX_ALERT_BYTES", 1200)
    clock, reports = Clock(), list[str]()
    state = state_module.State(tmp_path / "state.db", keep=3600)
    outbox = Outbox(state, [], timer=clock)
    outbox.trouble.on_report = reports.append
    state.remember(b"1", "c", b"x" * 700)
    outbox.check()
    outbox.check()
    state.close()

    assert reports == ["alerts use 85% of their budget in the state file; the oldest are dropped at 100 %"]


def test_a_flood_of_incidents_of_one_container_pushes_out_nobody_elses() -> None:
    kept = archive.in_memory()
    kept.put(note("f" * 16, container="quiet", pod="quiet"), step=True)
    for number in range(2 * archive.MAX_INCIDENTS_IN_MEMORY):
        kept.put(replace(note(f"{number:016x}", container="loud"), last=10**18 + number), step=True)

    assert kept.find("f" * 16) is not None
    assert kept.find(f"{2 * archive.MAX_INCIDENTS_IN_MEMORY - 1:016x}") is not None


@given(st.integers(0, 1_000_000))
def test_a_row_weighs_the_same_in_sql_and_in_python(length: int) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        (size,) = db.execute(f"SELECT {shares.row_size_sql('?1')}", (length,)).fetchone()

    assert size == shares.row_size(length)


@pytest.mark.parametrize("length", [100, 1300, 1400, 2000, 2100, 4000, 9000])
def test_rows_take_no_more_of_the_file_than_they_weigh(tmp_path: Path, length: int) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "rows.db")) as db:
        db.execute("CREATE TABLE rows (body BLOB)")
        db.executemany("INSERT INTO rows VALUES (?)", [(b"x" * length,)] * 1000)
        db.commit()

    assert (tmp_path / "rows.db").stat().st_size < 1000 * shares.row_size(length + 20) * 1.05
