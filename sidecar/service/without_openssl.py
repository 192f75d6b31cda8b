"""OpenSSL stays out of a service that speaks no TLS: it would be 5 MB, a sixth of all that an idle one holds.

asyncio, hashlib and hmac load it unasked where they find it. Each of them also works in a Python that was built without
it: asyncio then knows no TLS, the others have the same functions in C of Python's own.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MODULES = ("ssl", "_ssl", "_hashlib")


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
