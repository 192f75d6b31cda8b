"""OpenSSL is not loaded by a service that speaks no TLS, because of its memory (docs/decisions/0015).

asyncio, hashlib and hmac load it where they find it. Each of them also works in a Python that was built without it:
asyncio then has no TLS, and the others use Python's own C functions.
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
