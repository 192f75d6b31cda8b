"""Falco's file_output, followed through whatever is done to it."""

import json
import os
from pathlib import Path

import pytest
from conftest import DATA, Clock, Serving
from support.falcosidekick import Falcosidekick
from support.waiting import wait_until

from sidecar.sources.journal import CHUNK_BYTES, LINGER_SECONDS, Journal
from sidecar.storage.state import Position

STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def all_lines(journal: Journal, clock: Clock) -> list[bytes]:
    """What is read within a while."""
    lines = []
    for _ in range(10):
        lines += journal.read()
        clock.now += LINGER_SECONDS
    return lines


def opened(path: Path, clock: Clock, start: Position | None = None) -> Journal:
    return Journal(path, start, clock)


def test_lines_are_read_as_they_are_written_and_a_partial_one_waits_for_its_end(path: Path, clock: Clock) -> None:
    journal = opened(path, clock)
    assert journal.read() == []
    with path.open("ab", buffering=0) as falco:
        falco.write(b"one\ntw")
        assert journal.read() == [b"one"]
        assert journal.read() == []
        falco.write(b"o\nthree\n")
        assert journal.read() == [b"two", b"three"]
    journal.close()


def test_it_goes_on_where_it_stopped(path: Path, clock: Clock) -> None:
    path.write_bytes(b"one\ntwo\n")
    first = opened(path, clock)
    first.read()
    position = first.position
    first.close()
    with path.open("ab") as falco:
        falco.write(b"three\n")
    second = opened(path, clock, position)

    assert second.read() == [b"three"]
    second.close()


def test_a_file_renamed_away_is_read_to_its_end_before_the_new_one(path: Path, clock: Clock) -> None:
    journal = opened(path, clock)
    falco = path.open("ab", buffering=0)
    falco.write(b"one\n")
    assert journal.read() == [b"one"]
    path.rename(path.with_name("events.jsonl.1"))
    path.write_bytes(b"three\n")
    falco.write(b"two, written before Falco was told\n")
    assert journal.read() == [b"two, written before Falco was told"]
    assert journal.read() == []
    clock.now += LINGER_SECONDS
    assert journal.read() == []

    assert journal.read() == [b"three"]
    falco.close()
    journal.close()


def test_a_file_that_was_rotated_while_nobody_read_is_finished_first(path: Path, clock: Clock) -> None:
    path.write_bytes(b"one\ntwo\n")
    position = Position(path.stat().st_ino, 4)
    path.rename(path.with_name("events.jsonl.1"))
    path.write_bytes(b"three\n")
    journal = opened(path, clock, position)
    assert journal.read() == [b"two"]
    journal.read()
    clock.now += LINGER_SECONDS
    journal.read()

    assert journal.read() == [b"three"]
    journal.close()


def test_a_truncated_file_is_read_from_its_beginning(path: Path, clock: Clock) -> None:
    journal = opened(path, clock)
    path.write_bytes(b"one, a long line\n")
    assert journal.read() == [b"one, a long line"]
    with path.open("r+b") as file:
        file.truncate(0)
    with path.open("ab") as file:
        file.write(b"two\n")
    journal.read()

    assert journal.read() == [b"two"]
    journal.close()


@pytest.mark.parametrize("written", [b"4\n", b"four, in a file that is longer than the old one was\n"])
def test_after_copytruncate_while_it_is_read_the_rest_is_read_from_the_copy(
    path: Path, clock: Clock, written: bytes
) -> None:
    journal = opened(path, clock)
    path.write_bytes(b"one\n")
    lines = journal.read()
    with path.open("ab") as file:
        file.write(b"two\nthree\n")
    path.with_name("events.jsonl.1").write_bytes(path.read_bytes())
    os.truncate(path, 0)
    with path.open("ab") as file:
        file.write(written)
    lines += all_lines(journal, clock)
    journal.close()

    assert lines == [b"one", b"two", b"three", written.strip()]
    assert journal.lost_files == 0


def test_a_file_truncated_without_a_copy_is_counted(path: Path, clock: Clock) -> None:
    journal = opened(path, clock)
    path.write_bytes(b"one\n")
    journal.read()
    path.write_bytes(b"2\n")

    assert all_lines(journal, clock) == [b"2"]
    assert journal.lost_files == 1
    journal.close()


def test_a_line_that_is_no_alert_by_its_length_is_skipped_and_counted(path: Path, clock: Clock) -> None:
    path.write_bytes(b"x" * CHUNK_BYTES + b"\ntwo\n")
    journal = opened(path, clock)
    journal.read()

    assert (journal.read(), journal.skipped) == ([b"two"], 1)
    journal.close()


@pytest.mark.slow
def test_alerts_that_came_while_the_service_was_away_are_read_and_those_that_came_both_ways_count_once(
    serving: Serving, sidekick: Falcosidekick, path: Path, tmp_path: Path
) -> None:
    settings = {
        "journal": {"path": str(path), "poll_interval": "20ms"},
        "pass_through": {"mode": "none"},
        "sinks": {"falcosidekick": {"url": sidekick.url}},
    }
    path.write_bytes(b"".join(line + b"\n" for line in STOCK[:40]))
    with serving(settings) as service:
        wait_until(lambda: service.service.received["journal"] == 40)
        for line in STOCK[:40]:
            service.post(line)
        with path.open("ab") as falco:
            falco.write(b"".join(line + b"\n" for line in STOCK[40:]))
        wait_until(lambda: service.service.received["journal"] == len(STOCK))
        duplicates = service.service.pipeline.reasons["duplicate"]

    relevant = sum(json.loads(line)["rule"] != "" for line in STOCK[:40])
    assert 0 < duplicates <= relevant
    assert len(sidekick.events) == 4


@pytest.mark.slow
def test_the_position_survives_a_restart(serving: Serving, path: Path, tmp_path: Path) -> None:
    settings = {
        "http": {"enabled": False},
        "journal": {"path": str(path), "poll_interval": "20ms"},
        "state": {"path": str(tmp_path / "state.db")},
        "sinks": {"file": {"path": str(tmp_path / "incidents.jsonl")}},
    }
    path.write_bytes(b"".join(line + b"\n" for line in STOCK[:60]))
    with serving(settings) as service:
        wait_until(lambda: service.service.received["journal"] == 60)
    with path.open("ab") as falco:
        falco.write(b"".join(line + b"\n" for line in STOCK[60:]))
    with serving(settings) as service:
        wait_until(lambda: service.service.received["journal"] == len(STOCK) - 60)
        assert service.service.pipeline.reasons["duplicate"] == 0

    assert len((tmp_path / "incidents.jsonl").read_text().splitlines()) == 4


def test_a_file_that_was_rotated_twice_while_away_is_read_with_all_that_came_between(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"1\n")
    journal = Journal(path, None)
    journal.read()
    start = journal.position
    journal.close()
    path.write_bytes(b"1\n2\n")
    for number, line in ((3, b"3\n"), (4, b"4\n")):
        for older in range(number, 0, -1):
            if (rotated := tmp_path / f"events.jsonl.{older}").exists():
                rotated.rename(tmp_path / f"events.jsonl.{older + 1}")
        path.rename(tmp_path / "events.jsonl.1")
        path.write_bytes(line)
        os.utime(path, ns=(number * 10**18, number * 10**18))
    os.utime(tmp_path / "events.jsonl.2", ns=(10**18, 10**18))
    lines = all_lines(journal := Journal(path, start, clock), clock)
    journal.close()

    assert lines == [b"2", b"3", b"4"]
    assert journal.lost_files == 0


def test_after_copytruncate_while_away_the_rest_is_read_from_the_copy(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"first\n")
    journal = Journal(path, None)
    journal.read()
    start = journal.position
    journal.close()
    (tmp_path / "events.jsonl.1").write_bytes(b"first\nsecond\n")
    path.write_bytes(b"3\n")
    lines = all_lines(journal := Journal(path, start, clock), clock)
    journal.close()

    assert lines == [b"second", b"3"]


def test_after_copytruncate_while_away_a_file_that_is_longer_by_now_is_read_from_its_beginning(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"one\n")
    journal = opened(path, clock)
    assert all_lines(journal, clock) == [b"one"]
    start = journal.position
    journal.close()
    path.with_name("events.jsonl.1").write_bytes(b"one\ntwo\n")
    os.truncate(path, 0)
    with path.open("ab") as file:
        file.write(b"three\nfour\n")

    journal = opened(path, clock, start)
    assert all_lines(journal, clock) == [b"two", b"three", b"four"]
    journal.close()


def test_a_file_with_the_number_of_the_one_that_was_read_is_not_taken_for_it(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"another\nfile\n")
    start = Position(path.stat().st_ino, 4, 12345)
    journal = opened(path, clock, start)

    assert all_lines(journal, clock) == [b"another", b"file"]
    assert journal.lost_files == 1
    journal.close()


def test_what_the_journal_could_not_read_is_a_metric(serving: Serving, path: Path) -> None:
    path.write_bytes(b"x" * (CHUNK_BYTES + 10))
    with serving({"sinks": {"stdout": {"enabled": True}}, "journal": {"path": str(path)}}) as service:
        wait_until(lambda: service.metric('journal_gaps_total{kind="line"}') == 1.0)

        assert service.metric('journal_gaps_total{kind="file"}') == 0.0


def test_a_file_that_is_gone_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"new\n")
    journal = Journal(path, Position(1, 100))

    assert (journal.read(), journal.lost_files) == ([b"new"], 1)
    journal.close()
