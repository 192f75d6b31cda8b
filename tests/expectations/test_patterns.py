"""Patterns cover what they say, and nothing that is appended, slipped in or renamed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.expectations.patterns import SHELL_CHARACTERS, Command, Glob
from sidecar.meaning.program import program
from sidecar.model import Fields

WORDS = st.text("ab*-/.", min_size=1, max_size=8)


def covers(pattern: str, command: str, exepath: str = "", name: str = "") -> bool:
    """Whether a pattern covers a process; its file is by default that of its first word in /usr/bin."""
    first, _, arguments = command.partition(" ")
    fields = Fields(name=name or first, exepath=exepath or f"/usr/bin/{first}", cmdline=f"{name or first} {arguments}")
    return Command.parse(pattern).matches(program(fields))


@pytest.mark.parametrize(
    ("pattern", "command"),
    [
        ("wal-g wal-push *", "wal-g wal-push pg_wal/0001"),
        ("sh -c wal-g wal-push pg_wal/*", "sh -c wal-g wal-push pg_wal/0001"),
        ("rsync --server **", "rsync --server . /backup/ /more"),
        ("rsync --server **", "rsync --server"),
        ("bash /notify.sh **", "bash /notify.sh app;web >90 (critical)"),
        ("tar -c* --file=*", "tar -czf --file=/x"),
        ("python3* /app/job.py *", "python3.11 /app/job.py today"),
    ],
)
def test_a_pattern_covers_the_command_that_it_describes(pattern: str, command: str) -> None:
    assert covers(pattern, command)


@pytest.mark.parametrize(
    ("pattern", "command"),
    [
        ("wal-g wal-push *", "wal-g wal-push"),
        ("wal-g wal-push *", "wal-g wal-push a b"),
        ("wal-g wal-push *", "curl wal-push a"),
        ("sh -c wal-g wal-push *", "sh -c wal-g wal-push x; curl y"),
        ("sh -c wal-g wal-push *", "sh -c wal-g wal-push x;curl"),
        ("sh -c wal-g wal-push *", "sh -c wal-g wal-push $(id)"),
        ("sh -c wal-g wal-push *", "sh -c wal-g wal-push `id`"),
        ("sh -c /backup.sh * *", "sh -c /backup.sh a >/etc/passwd"),
        ("tar **", "tar --checkpoint-action=exec=sh"),
        ("tar -cf *", "tar -cf --checkpoint=1"),
        ("cat /data/*", "cat /data/../etc/shadow"),
        ("cat /data/*", "cat /data/.."),
    ],
)
def test_a_pattern_covers_nothing_appended_or_bent(pattern: str, command: str) -> None:
    assert not covers(pattern, command)


def test_a_program_is_known_by_its_file_not_by_its_name() -> None:
    assert not covers("wal-g wal-push *", "wal-g wal-push x", exepath="/tmp/busy", name="wal-g")


def test_a_path_in_a_pattern_is_the_whole_file() -> None:
    assert covers("/opt/wal-g wal-push *", "wal-g wal-push x", exepath="/opt/wal-g")
    assert not covers("/opt/wal-g wal-push *", "wal-g wal-push x", exepath="/tmp/opt/wal-g")


def test_sh_stands_for_any_shell() -> None:
    assert covers("sh -c uptime", "dash -c uptime")
    assert covers("sh -c uptime", "bash -c uptime")


@given(text=WORDS)
def test_a_text_without_wildcards_covers_itself_alone(text: str) -> None:
    literal = text.replace("*", "a")

    assert Glob.parse(literal).matches(literal)
    assert not Glob.parse(literal).matches(literal + "a")


@given(begin=WORDS, middle=WORDS, end=WORDS)
def test_what_wildcards_stand_for_makes_up_the_text(begin: str, middle: str, end: str) -> None:
    begin, end = begin.replace("*", "a"), end.replace("*", "b")

    assert Glob.parse(f"{begin}*{end}").captured(begin + middle + end) == (middle,)


@given(
    appended=st.text(st.sampled_from(sorted(SHELL_CHARACTERS)), min_size=1, max_size=4), tail=st.text("ab ", max_size=6)
)
def test_nothing_that_a_shell_reads_is_covered_by_a_wildcard(appended: str, tail: str) -> None:
    assert not covers("sh -c backup *", f"sh -c backup a{appended}{tail}")
