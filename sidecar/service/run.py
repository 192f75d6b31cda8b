"""Runs a service until a signal, or until its supervisor is gone, with rare garbage collections."""

import asyncio
import gc
import os
import signal

from sidecar.service import sockets
from sidecar.service.service import Service

FULL_COLLECTION_EVERY = 100
"""Collections of the middle generation per full one: about 700,000 new objects that stay."""


async def serve(service: Service) -> None:
    """Run a service until SIGTERM or SIGINT. Raises OSError if a port cannot be used."""
    parent = os.getppid()
    stop = stop_on_signals()
    await service.start()
    collect_rarely()
    orphaned = asyncio.create_task(_stop_when_orphaned(parent, stop))
    await stop.wait()
    orphaned.cancel()
    await service.stop()


async def _stop_when_orphaned(parent: int, stop: asyncio.Event) -> None:
    """Stop a worker whose supervisor is gone: it would keep the ports that the next one needs."""
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


def collect_rarely() -> None:
    """Make full garbage collections rare: one with 20,000 containers in memory stops everything for 300 ms.

    Call it when everything is loaded: objects that exist by then are never examined again. Evicted state has no
    reference cycles (a test checks that), so reference counting frees it. asyncio's connections have some; most are
    collected young, and a full collection follows after 10,000 to 100,000 connections.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTION_EVERY)
