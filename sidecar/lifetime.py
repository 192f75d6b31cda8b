"""How long a service runs: until a signal, or until its supervisor is gone."""

import asyncio
import os
import signal

from sidecar import sockets
from sidecar.app import Service
from sidecar.garbage import collect_seldom


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
