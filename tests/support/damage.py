"""Random damages of a real state file, and what a start makes of each."""

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from pathlib import Path

from conftest import fed, spec
from support.messages import note
from support.outage import DownAndUp
from support.rules import RULES, WEB_RCE

from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.delivery.outbox import Outbox
from sidecar.incidents.falco_event import to_json
from sidecar.model import Outgoing, delivery_key
from sidecar.service.service import Service
from sidecar.settings.schema import Settings
from sidecar.storage.archive import IncidentFilter
from sidecar.storage.state import Batch, Position, State, StateError

MAX_SECONDS = 30.0
"""That a start may take."""


def real_file(path: Path) -> dict[str, bytes]:
    """The state file of a service that was killed: its parts by suffix."""
    state = State(path, keep=1e9)
    pipeline = Pipeline(RULES, lambda: 0.0, None, Outbox(state, []).remember)
    for number in range(60):
        story = [spec("tini > nginx > sh", "web_shell", container=f"c{number}")]
        if number % 3 == 0:
            story.append(spec("tini > nginx > sh > curl", "network", at="1s", container=f"c{number}"))
        for message in fed(pipeline, alerts(WEB_RCE, story)):
            state.decide([Outgoing(delivery_key(message, "sink"), to_json(message), place="h/c")], [message])
    state.decide([Outgoing("delivered:medium:sink", b"{}")], [note("0" * 16)])
    state.delivered("delivered:medium:sink")
    state.write(Batch(positions={"events.jsonl": Position(1, 10)}))
    parts = {suffix: path.with_name(path.name + suffix).read_bytes() for suffix in ("", "-wal", "-shm")}
    state.close()
    return parts


def damages(folder: Path, count: int, seed: int) -> Counter[str]:
    """Start on so many damaged files; outcomes are `starts`, `refused` with a reason, and what must not be."""
    logging.disable(logging.CRITICAL)
    rng = random.Random(seed)
    parts = real_file(folder / "real.db")
    whole = folder / "whole.db"
    whole.write_bytes(parts[""])
    whole.with_name("whole.db-wal").write_bytes(parts["-wal"])
    State(whole, keep=1e9).close()  # everything from the write-ahead log is in the file then
    outcomes: Counter[str] = Counter()
    for number in range(count):
        place = folder / str(number)
        place.mkdir()
        path = place / "state.db"
        if rng.random() < 0.5:
            path.write_bytes(_damaged(whole.read_bytes(), rng))
        else:
            which = rng.choice(["", "-wal", "-shm"])
            for suffix, data in parts.items():
                path.with_name(path.name + suffix).write_bytes(_damaged(data, rng) if suffix == which else data)
        began = time.monotonic()
        outcome = _start(path)
        outcomes[outcome if time.monotonic() - began < MAX_SECONDS else "hangs"] += 1
    logging.disable(logging.NOTSET)
    return outcomes


def _damaged(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    kind = rng.randrange(5)
    if kind == 0:
        return bytes(changed[: rng.randrange(len(changed) + 1)])
    for _ in range(rng.choice([1, 3, 30])):
        at = rng.randrange(len(changed))
        length = rng.choice([1, 1, 8, 100, 4096]) if kind < 4 else 1
        changed[at : at + length] = rng.randbytes(len(changed[at : at + length]))
    return bytes(changed)


def _start(path: Path) -> str:
    async def run() -> str:
        try:
            state = State(path, keep=1e9)
        except StateError as error:
            return "refused" if str(error) else "refused without a reason"
        service = _service(state)
        try:
            await service.start()
            for body in alerts(WEB_RCE, [spec("tini > nginx > sh", "web_shell", container="new")]):
                service.intake.take_json(body)
            service.outbox.check()
            with contextlib.suppress(Exception):  # a page may fail, on a file that does; it is answered 500 then
                service.outbox.archive.listed(IncidentFilter(), 0)
        finally:
            for delivery in service.deliveries:
                await delivery.stop(0)
            service.incidents.stop()
            state.close()
        return "starts"

    try:
        return asyncio.run(run())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _service(state: State) -> Service:
    settings = Settings()
    settings.http.enabled = settings.admin.enabled = settings.canary.enabled = False
    return Service(settings, RULES, [DownAndUp()], state)
