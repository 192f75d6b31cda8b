import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.alerts.ancestry import GUESS, TOLERANCE, Ancestor, decode, is_same_process

START = 1795844493157637161

EXACT = (
    f"=1;900;{START};4072;34816;-1;12;3;fe;"
    "1:1795839325000000000:p +4 800:1795844469378547713:p:80,443 801:1795844493130178631:l;"
    "/usr/lib/systemd/systemd||/usr/sbin/nginx|worker|/opt/very/long-name-of-a-program||/usr/bin/dash|sh"
)

GUESSED = (
    f"?1;900;{START};4072;0;<NA>;12;;;"
    "<NA>: <NA>: <NA>: <NA>: 1: 800: 801:1795844493130178631;"
    "<NA>|<NA>|<NA>|<NA>|<NA>|<NA>|<NA>|<NA>|/usr/lib/systemd/systemd|systemd|/usr/sbin/nginx|nginx|"
    "/usr/sbin/nginx|nginx|/usr/bin/dash|sh"
)


def test_the_plugins_field_is_exact() -> None:
    found = decode(EXACT)
    assert found is not None
    assert found.is_exact
    assert (found.pid, found.start, found.session, found.terminal, found.login) == (900, START, 4072, 34816, -1)
    assert (found.vpid, found.name, found.file, found.has_entered, found.missing) == (
        12,
        "sh",
        "/usr/bin/dash",
        True,
        4,
    )
    assert found.has_lost_forks
    assert found.ancestors == (
        Ancestor(801, 1795844493130178631, "long-name-of-a-", "/opt/very/long-name-of-a-program", "l"),
        Ancestor(800, 1795844469378547713, "worker", "/usr/sbin/nginx", "p", (80, 443)),
        Ancestor(1, 1795839325000000000, "systemd", "/usr/lib/systemd/systemd", "p"),
    )


def test_falcos_own_field_is_a_guess() -> None:
    found = decode(GUESSED)
    assert found is not None
    assert not found.is_exact
    assert (found.pid, found.start, found.login, found.name) == (900, START, -1, "sh")
    assert [(each.pid, each.start, each.name) for each in found.ancestors] == [
        (801, 1795844493130178631, "nginx"),
        (800, 0, "nginx"),
        (1, 0, "systemd"),
    ]


def test_what_falco_makes_of_the_format_is_decoded() -> None:
    values = {
        "%proc.pid": "900",
        "%proc.pid.ts": str(START),
        "%proc.ppid": "801",
        "%proc.ppid.ts": "1795844493130178631",
        "%proc.aname[1]": "nginx",
        "%proc.name": "sh",
    }
    made = re.sub(r"%[\w.]+(\[\d\])?", lambda field: values.get(field[0], "<NA>"), GUESS)
    found = decode(made)
    assert found is not None
    assert (found.pid, found.start, found.name) == (900, START, "sh")
    assert found.ancestors == (Ancestor(801, 1795844493130178631, "nginx", ""),)


@pytest.mark.parametrize(
    "change", [("900;", "9_00;"), ("900;", "+900;"), ("900;", "٩;"), ("4072;", "x;"), ("800:", "8x:")]
)
def test_what_is_not_a_number_is_refused(change: tuple[str, str]) -> None:
    assert decode(EXACT.replace(*change, 1)) is None


@given(name=st.text("|;: =?+\n/ab", max_size=40))
def test_no_name_of_the_process_shifts_what_stands_before_it(name: str) -> None:
    found = decode(GUESSED.replace("/usr/bin/dash|sh", f"{name}|{name}"))
    assert found is not None
    assert (found.pid, found.session) == (900, 4072)
    assert [each.file for each in found.ancestors] == ["/usr/sbin/nginx"] * 2 + ["/usr/lib/systemd/systemd"]


@given(text=st.text(max_size=80) | st.text("=?1;:|+ ,fpl-9", max_size=80).map(lambda text: f"=1;{text}"))
def test_what_is_no_packed_field_is_none_and_never_an_error(text: str) -> None:
    found = decode(text)
    assert found is None or found.pid >= -(10**20)


@pytest.mark.parametrize("text", ["", "=2;1;2", "=1;1", EXACT.replace(";900;", ";9x0;"), EXACT.replace(":l;", ":z;")])
def test_another_version_or_a_broken_field_is_none(text: str) -> None:
    assert decode(text) is None


def test_a_start_that_moved_with_a_restart_of_falco_is_the_same_process() -> None:
    assert is_same_process(800, START, 800, START + 20_000_000)
    assert is_same_process(800, START, 800, 0)
    assert not is_same_process(800, START, 800, START + TOLERANCE)
    assert not is_same_process(800, START, 801, START)
