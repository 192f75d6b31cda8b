"""What programs are by file and script.

Covers: `meaning.declined`.
"""

import pytest

from sidecar.meaning.service import Nature, nature


@pytest.mark.parametrize(
    ("image", "name", "command", "expected"),
    [
        ("/usr/sbin/nginx", "nginx", "", Nature.SERVICE),
        ("/usr/local/bin/node", "MainThread", "/app/server.js", Nature.RUNTIME),
        ("/usr/bin/python3.11", "gunicorn", "/usr/local/bin/gunicorn", Nature.SERVICE),
        ("/usr/bin/python3.11", "python3", "uvicorn", Nature.SERVICE),
        ("/usr/bin/python3.11", "python3", "-c", Nature.PROGRAM),
        ("/usr/bin/python3.11", "celery", "/usr/local/bin/celery worker", Nature.JOB_TOOL),
        ("/usr/local/bin/node", "node", "/srv/app/node_modules/.bin/jest", Nature.JOB_TOOL),
        ("/usr/local/bin/node", "node", "/usr/local/bin/npm start", Nature.RUNTIME),
        ("/usr/local/bin/node", "node", "/usr/local/bin/npm ci", Nature.JOB_TOOL),
        ("/usr/local/bin/node", "node", "/app/db-backup.js", Nature.JOB_SCRIPT),
        ("/usr/local/bin/node", "node", "/app/jobs.js", Nature.RUNTIME),
        ("/usr/bin/dash", "nginx", "", Nature.NONE),
        ("/usr/bin/dash", "sh", "/entrypoint.sh", Nature.NONE),
        ("/tmp/agent", "perl", "", Nature.PROGRAM),
        ("/app/api-server", "api-server", "", Nature.RUNTIME),
        ("node", "node", "", Nature.RUNTIME),
        ("gunicorn", "gunicorn", "", Nature.SERVICE),
        ("", "", "", Nature.NONE),
    ],
)
def test_a_program_is_what_its_file_and_script_say(image: str, name: str, command: str, expected: Nature) -> None:
    assert nature(image, name, command) is expected
