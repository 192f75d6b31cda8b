"""The line that siblings share is what a walk up the remembered processes finds, whatever alerts come in which order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.correlation.memory.lineage import Line, Lineage, Process
from sidecar.model import Fields

SHOWN = st.tuples(
    st.lists(st.integers(1, 5), min_size=1, max_size=4, unique=True),
    st.sampled_from(("sh", "nginx")),
    st.sampled_from((None, 1, 9)),
    st.integers(1, 20),
    st.integers(1, 3),
)
"""Ancestors of a process, nearest first; the name of the nearest and when it started; the time; how many siblings."""


def shown(number: int, above: list[int], name: str, start: int | None) -> Fields:
    """A new process below these."""
    fields = Fields(pid=100 + number, name="cat", ppid=above[0], parent_start=start, aname1=name)
    for at, pid in enumerate(above[1:], 2):
        setattr(fields, f"apid{at}", pid)
        setattr(fields, f"aname{at}", "tini")
    return fields


def taught(lineage: Lineage, stream: list[tuple[list[int], str, int | None, int, int]]) -> list[bool]:
    """Whether each alert's path and line were what a walk finds."""
    right, number = [], 0
    for above, name, start, time, siblings in stream:
        for later in range(siblings):
            number += 1
            learned = lineage.learn(shown(number, above, name, start), time + later, lambda _: False)
            path, line = learned.path, learned.line
            same = [*map(id, path)] == [*map(id, lineage.path(100 + number))]
            right.append(same and (line is None or told(line) == walked(path)))
            if number % 3 == 0 and len(path) > 1 and not path[1].anchors:
                path[1].anchors = True
                lineage.version += 1
    return right


def told(line: Line) -> tuple[object, ...]:
    return line.named, line.anchors


def walked(path: list[Process]) -> tuple[object, ...]:
    above = [(process.pid, process.name) for process in path[1:]]
    return tuple(above), tuple(at for at in range(len(path) - 1, 0, -1) if path[at].anchors)


def in_a_circle(process: Process, below: tuple[int, ...] = ()) -> bool:
    """Whether lines lead from a process back to it."""
    if id(process) in below:
        return True
    return process.line is not None and any(in_a_circle(each, (*below, id(process))) for each in process.line.path)


@given(st.lists(SHOWN, max_size=30), st.sampled_from((12, 1000)))
@settings(max_examples=300)
def test_a_shared_line_is_what_a_walk_finds(
    stream: list[tuple[list[int], str, int | None, int, int]], room: int
) -> None:
    assert all(taught(Lineage(room, 100, lambda: 0.0), stream))


@given(st.lists(SHOWN, max_size=30))
@settings(max_examples=300)
def test_lines_hold_no_circles_even_if_pids_are_used_again(
    stream: list[tuple[list[int], str, int | None, int, int]],
) -> None:
    lineage = Lineage(1000, 100, lambda: 0.0)
    taught(lineage, stream)

    assert not any(in_a_circle(process) for pid in lineage if (process := lineage[pid]) is not None)


def test_siblings_share_one_line_until_something_above_them_changes() -> None:
    lineage = Lineage(1000, 100, lambda: 0.0)
    lines = [lineage.learn(shown(number, [3, 2, 1], "sh", None), number, lambda _: False).line for number in range(4)]
    lineage.learn(shown(9, [2, 4], "other", None), 9, lambda _: False)
    after = lineage.learn(shown(10, [3, 2, 1], "sh", None), 10, lambda _: False)

    assert [line is None for line in lines] == [True, False, False, False]
    assert lines[1] is lines[2] is lines[3]
    assert after.line is not lines[1]
