"""OpenSSL stays out of a service that speaks no TLS: it would be 5 MB, a sixth of all that an idle one holds.

asyncio, hashlib and hmac load it unasked where they find it. Each of them also works in a Python that was built without
it: asyncio then knows no TLS, the others have the same functions in C of Python's own.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sidecar.settings.schema import Settings

MODULES = ("ssl", "_ssl", "_hashlib")


def needed(settings: "Settings") -> bool:
    """Whether a port or a sink of these settings speaks TLS; gRPC brings its own."""
    urls = (settings.sinks.falcosidekick.url, settings.sinks.webhook.url, settings.pass_through.url)
    return bool(settings.http.tls.cert) or any(url.lower().startswith("https:") for url in urls)


@contextmanager
def left_out() -> Iterator[None]:
    """What is imported for the first time within this block finds a Python without OpenSSL."""
    hidden = [name for name in MODULES if name not in sys.modules]
    refused: Any = dict.fromkeys(hidden)  # None instead of a module is how the import system is told to refuse it
    sys.modules.update(refused)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
