"""The JSON API keeps what its OpenAPI document promises, whatever is asked: Schemathesis tries."""

import subprocess
from pathlib import Path

import pytest
from conftest import needs
from support.site_with_incidents import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_no_request_is_answered_other_than_described(tmp_path: Path) -> None:
    program = needs("schemathesis")
    with running() as service:
        document = f"http://127.0.0.1:{service.service.admin_port}/api/v1/openapi.json"
        limits = ["--phases", "coverage,fuzzing", "--max-examples", "20", "--seed", "1"]
        done = subprocess.run(
            [program, "run", document, *limits, "--no-color"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )

    assert done.returncode == 0, done.stdout[-4000:]
