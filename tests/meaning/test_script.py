"""Which scripts are part of the application."""

import pytest

from sidecar.meaning.script import is_of_application, tools_named
from sidecar.model import Fields


@pytest.mark.parametrize("script", ["/scripts/notify.sh", "/usr/lib/dovecot/sieve/pipe", "/opt/app/bin/run"])
def test_a_script_of_the_image_or_of_a_configuration_is(script: str) -> None:
    assert is_of_application(script)


@pytest.mark.parametrize(
    "script",
    ["", "-c", "notify.sh", "./hooks/post-receive", "/tmp/x.sh", "/var/lib/app/x.sh", "/var/www/html/x.sh",
     "/usr/lib/cgi-bin/status", "/opt/git/a.git/hooks/update", "/home/app/x.sh"],
)  # fmt: skip
def test_one_that_a_user_or_the_service_may_have_written_is_not(script: str) -> None:
    assert not is_of_application(script)


@pytest.mark.parametrize(
    ("command", "tools"),
    [
        ("bash /scripts/with-env -- curl http://x", ("curl",)),
        ("bash /scripts/ping.sh 192.0.2.1;/usr/bin/wget$IFS", ("wget",)),
        ("bash /scripts/archive.sh pg_wal/0001 0001", ()),
        ("bash -c curl http://x", ()),
        ("bash", ()),
    ],
)
def test_the_tools_that_the_arguments_of_a_script_name_are_found(command: str, tools: tuple[str, ...]) -> None:
    assert tools_named(Fields(name="bash", exepath="/usr/bin/bash", cmdline=command)) == tools


def test_only_a_shell_runs_scripts_of_a_shell() -> None:
    assert tools_named(Fields(name="x", exepath="/usr/bin/x", cmdline="x /scripts/with-env curl")) == ()
