"""How long a service runs: until a signal, or until its supervisor is gone; and when Python looks for cycles."""

import asyncio
import gc
import os
import signal

from sidecar.service import sockets
from sidecar.service.service import Service

SELDOM = 100
"""Collections of the middle generation for a full one: that is after 700,000 new objects that stay."""


async def serve(service: Service) -> None:
    """Run a service until SIGTERM or SIGINT. Raises OSError if a port cannot be had."""
    parent, stop = os.getppid(), stop_on_signals()
    await service.start()
    collect_seldom()
    orphaned = asyncio.create_task(_stop_when_orphaned(parent, stop))
    await stop.wait()
    orphaned.cancel()
    await service.stop()


async def _stop_when_orphaned(parent: int, stop: asyncio.Event) -> None:
    """A worker does not outlive its supervisor: it would hold the ports that the next one wants."""
    while sockets.INHERITED in os.environ:
        await asyncio.sleep(1)
        if os.getppid() != parent:
            stop.set()


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    return stop


def collect_seldom() -> None:
    """Look for reference cycles seldom: a look at 20,000 containers stops everything for 300 ms.

    Call it when everything is loaded: what exists now is never looked at again. Evicted state holds no cycles (a test
    sees to it), so counting references frees it. asyncio's connections do; most are collected young, and what is left
    of 10,000 to 100,000 of them brings a full collection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], SELDOM)
