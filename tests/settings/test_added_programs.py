"""Programs that a user adds to those that the service knows."""

from collections.abc import Iterator

import pytest

from sidecar.meaning import tables
from sidecar.meaning.boundary import boundary
from sidecar.meaning.service import Nature, nature
from sidecar.settings.schema import AddedPrograms


@pytest.fixture(autouse=True)
def _shipped_again() -> Iterator[None]:
    yield
    tables.extend(AddedPrograms())


def test_added_programs_are_what_the_user_says() -> None:
    before = nature("/opt/acme/bin/acme-gw", "acme-gw", "")
    tables.extend(
        AddedPrograms(
            services=["acme-gw", "wsgi_main.py"],
            runtimes=["acme-vm"],
            jobs=["crunch.py"],
            boundaries=["/opt/acme/bin/job-*"],
        )
    )

    assert (before, nature("/opt/acme/bin/acme-gw", "acme-gw", "")) == (Nature.PROGRAM, Nature.SERVICE)
    assert nature("/usr/bin/python3.11", "python3", "/srv/wsgi_main.py") is Nature.SERVICE
    assert nature("/opt/acme/acme-vm", "acme-vm", "") is Nature.RUNTIME
    assert nature("/usr/bin/python3.11", "python3", "/srv/crunch.py") is Nature.JOB_TOOL
    assert boundary("/opt/acme/bin/job-agent", "") == "added"


def test_every_mistake_in_them_is_reported_at_once() -> None:
    wrong = AddedPrograms(services=["*", "bin/x"], jobs=["{a"], boundaries=["job-agent", "/**", "/opt/acme/agent"])

    assert [problem.partition(":")[0] for problem in wrong.problems("programs")] == [
        "programs.services[0]",
        "programs.services[1]",
        "programs.jobs[0]",
        "programs.boundaries[0]",
        "programs.boundaries[1]",
    ]
