"""Which scripts are part of the application."""

import pytest

from sidecar.meaning.script import is_of_application


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
