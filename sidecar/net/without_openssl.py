"""Keeps OpenSSL out of a service that uses no TLS, to save its memory (docs/decisions/0015).

asyncio, hashlib and hmac load it if they find it. Each of them also works in a Python that was built without it:
asyncio then has no TLS, and the others use Python's own C functions.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MODULES = ("ssl", "_ssl", "_hashlib")


@contextmanager
def left_out() -> Iterator[None]:
    """Modules that are first imported within this block find a Python without OpenSSL."""
    hidden = [name for name in MODULES if name not in sys.modules]
    refused: Any = dict.fromkeys(hidden)  # the import system refuses a module that is None here
    sys.modules.update(refused)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
