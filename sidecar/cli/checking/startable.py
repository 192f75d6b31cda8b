"""Whether a service could start here with given settings: what `check --config` adds to the check of the file."""

import urllib.error
import urllib.request

from sidecar.service import worker
from sidecar.settings.schema import Settings

TIMEOUT_SECONDS = 2.0

TAKEN = ("is in use", "another instance is using this state file")
"""Parts of problems that are none if it is the service that runs here which has the port or the file."""


def problems(settings: Settings) -> tuple[list[str], list[str]]:
    """What would prevent a start, and what is only taken by the service that already runs with these settings."""
    found = list(worker.start_problems(settings, patience=0.0))
    taken = [problem for problem in found if any(words in problem for words in TAKEN)]
    if not taken or not _is_running(settings):
        return found, []
    names = ", ".join(problem.partition(":")[0] for problem in taken)
    return [problem for problem in found if problem not in taken], [f"{names}: in use by the service that runs here"]


def _is_running(settings: Settings) -> bool:
    """Whether our own service answers on the administration port."""
    if not settings.admin.enabled or not settings.admin.port:
        return False
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(settings.admin.host, settings.admin.host)  # noqa: S104 - compared, not bound
    host = f"[{host}]" if ":" in host else host
    try:
        with urllib.request.urlopen(f"http://{host}:{settings.admin.port}/healthz", timeout=TIMEOUT_SECONDS) as answer:
            return bool(answer.read(16) == b"ok\n")
    except (OSError, ValueError):
        return False
