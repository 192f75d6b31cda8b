"""Interactive shells: a terminal of their own, or their own -i flag."""

import pytest

from sidecar.alerts.traits import has_interactive_flag, interactive_shell
from sidecar.model import Fields


@pytest.mark.parametrize(
    ("cmdline", "interactive"),
    [
        ("bash -i", True),
        ("sh -i", True),
        ("bash -li", True),
        ("bash -il", True),
        ("sh -ic id", True),
        ("bash -ci id", True),
        ("bash --login -i", True),
        ("bash --rcfile /tmp/rc -i", True),
        ("bash --norc --noprofile -i", True),
        ("-bash -i", True),
        ("bash -x -i", True),
        ("bash -o pipefail -i", True),
        ("bash", False),
        ("sh -c grep -i x", False),
        ('sh -c "grep -i x"', False),
        ("sh -c /usr/sbin/sendmail -t -i", False),
        ("sh -xc ls -i", False),
        ("bash script.sh -i", False),
        ("bash -- -i", False),
        ("bash --interactive-looking", False),
        ("sh -e /init -i", False),
        ("", False),
    ],
)
def test_only_the_shells_own_flag_counts(cmdline: str, interactive: bool) -> None:
    assert interactive == has_interactive_flag(cmdline)


@pytest.mark.parametrize(
    ("name", "exepath", "tty", "first_tty", "interactive"),
    [
        ("bash", "/bin/bash", 34816, 0, True),
        ("bash", "/bin/bash", 34817, 34816, True),
        ("bash", "/bin/bash", 34816, 34816, False),
        ("bash", "/bin/bash", 0, 0, False),
        ("bash", "/bin/bash", None, 0, False),
        ("renamed", "/usr/bin/bash", 34816, 0, True),
        ("sh", "/bin/busybox", 34816, 0, True),
        ("ncdu", "/usr/bin/ncdu", 34816, 0, False),
        ("python3", "/usr/bin/python3", 34816, 0, False),
        (None, None, 34816, 0, False),
    ],
)
def test_a_shell_with_a_terminal_that_is_not_the_containers_is_interactive(
    name: str | None, exepath: str | None, tty: int | None, first_tty: int, interactive: bool
) -> None:
    assert interactive == interactive_shell(Fields(name=name, exepath=exepath, tty=tty), first_tty)
