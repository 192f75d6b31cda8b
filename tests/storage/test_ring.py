"""What waits in the ring is there after a crash: in order, whole, and nothing that was removed."""

import os
from collections import deque
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.storage.ring import RECORDS_AT, Ring, open_ring

CAPACITY = 400

STEPS = st.lists(st.one_of(st.integers(0, 300), st.sampled_from(("remove", "reopen"))), max_size=60)


def memory() -> int:
    return os.memfd_create("test")


@given(STEPS)
def test_any_course_of_adding_removing_and_crashing_keeps_what_was_not_removed(steps: list[int | str]) -> None:
    descriptor = memory()
    ring, expected = Ring(descriptor, CAPACITY), deque[tuple[int, bytes]]()
    for number, step in enumerate(steps):
        if isinstance(step, int):
            body = bytes([number]) * step
            while expected and not ring.has_room(step):
                ring.remove(expected.popleft()[0])
            expected.append((ring.add(body), body))
        elif step == "remove" and expected:
            ring.remove(expected.popleft()[0])
        else:
            ring = Ring(descriptor, CAPACITY)
            assert list(expected) == ring.recover()
    os.close(descriptor)


@given(STEPS, st.integers(0, CAPACITY + RECORDS_AT), st.binary(min_size=1, max_size=40))
@example(steps=[], at=4111, damage=b"\x00")
def test_a_damaged_ring_gives_only_what_was_written_in_order(steps: list[int | str], at: int, damage: bytes) -> None:
    descriptor = memory()
    ring, written = Ring(descriptor, CAPACITY), list[bytes]()
    for number, step in enumerate(steps):
        body = bytes([number]) * (step if isinstance(step, int) else 1)
        if ring.has_room(len(body)):
            ring.add(body)
            written.append(body)
    os.pwrite(descriptor, damage, at)
    found = [body for _, body in Ring(descriptor, CAPACITY).recover()]
    os.close(descriptor)

    assert found == written[: len(found)]


def test_a_ring_that_is_empty_most_of_the_time_stays_small() -> None:
    descriptor = memory()
    ring = Ring(descriptor)
    for _ in range(1000):
        ring.remove(ring.add(b"x" * 1000))

    assert os.fstat(descriptor).st_size < 3 * RECORDS_AT
    os.close(descriptor)


def test_what_waited_in_memory_moves_into_the_file_once_that_can_be_used(tmp_path: Path) -> None:
    shared = memory()
    in_memory, _ = open_ring(None, shared)
    assert in_memory is not None
    in_memory.add(b"one")

    _, waiting = open_ring(tmp_path / "ring", shared)
    again, _ = open_ring(None, shared)

    assert [body for _, body in waiting] == [b"one"]
    assert again is not None
    assert again.recover() == []
    assert [body for _, body in open_ring(tmp_path / "ring", None)[1]] == [b"one"]


def test_without_file_and_memory_there_is_no_ring() -> None:
    assert open_ring(None, None) == (None, [])


def test_a_file_that_cannot_be_opened_is_replaced_by_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring, waiting = open_ring(tmp_path, memory())

    assert ring is not None
    assert waiting == []
    assert "a file for what waits cannot be used" in caplog.text
