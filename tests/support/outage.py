"""A sink that is down while many incidents are decided, on a disk that may be full: what F1, F2 and F9 were found with."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from conftest import Clock
from support.messages import note

from sidecar.delivery.outbox import Outbox
from sidecar.delivery.sink_queue import Delivery
from sidecar.errors import SinkError
from sidecar.model import Notification, Outgoing, Severity
from sidecar.storage.state import State


class DownAndUp:
    """A sink that is down until the test brings it up. `accepted` has delivery keys in order."""

    name = "sink"

    def __init__(self) -> None:
        self.is_down = True
        self.accepted: list[str] = []

    async def send(self, out: Outgoing) -> None:
        if self.is_down:
            raise SinkError("503")
        self.accepted.append(out.key)

    def close(self) -> None:
        pass

    def repeats(self) -> int:
        """Messages that it accepted more than once."""
        return sum(count - 1 for count in Counter(self.accepted).values())

    def overtaken(self) -> int:
        """Critical steps that came before the first step of their incident."""
        place = {key: number for number, key in enumerate(self.accepted)}
        pairs = [(key, key.replace(":critical:", ":medium:")) for key in place if ":critical:" in key]
        return sum(place.get(first, -1) > place[second] for second, first in pairs)


class Life:
    """An outbox and one delivery from a start to a stop, on a clock that only sleeping turns."""

    def __init__(self, path: Path, sink: DownAndUp, room: int, replayed: Sequence[Notification] = ()) -> None:
        self.clock = Clock()
        self.sink = sink
        self.state = State(path, keep=1e9)
        self.delivery = Delivery(sink, room, self.clock, self._sleep)
        self.outbox = Outbox(self.state, [self.delivery], timer=self.clock)
        self.outbox.resume()
        self.outbox.decide(replayed)
        self.outbox.resumed()

    async def _sleep(self, seconds: float) -> None:
        self.clock.now += max(seconds, 0.001)

    def fill_the_disk(self) -> None:
        """Let the file grow no further."""
        (pages,) = self.state._db.execute("PRAGMA page_count").fetchone()
        self.state._db.execute(f"PRAGMA max_page_count = {pages}")

    def decide(self, count: int, severity: Severity = "medium") -> None:
        """One incident each for so many containers; the same ones each time."""
        for number in range(count):
            self.outbox.decide([note(f"{number:016x}", severity, container=f"c{number}")])

    async def deliver(self) -> None:
        """Work until nothing is pending."""
        while self.delivery.pending:
            await self.delivery.work()


def disk_full_and_sink_down(path: Path, *, incidents: int, room: int) -> tuple[int, int, int]:
    """Lost, sent again and reported as dropped, after a disk that was full while the sink was down (F1, F2)."""

    async def run() -> tuple[int, int, int]:
        sink = DownAndUp()
        life = Life(path, sink, room)
        life.decide(incidents // 2)
        life.fill_the_disk()
        life.decide(incidents)
        await life.delivery.work()
        sink.is_down = False
        await life.deliver()
        life.state.close()
        return incidents - len({*sink.accepted}), sink.repeats(), life.delivery.counts["dropped"]

    return asyncio.run(run())


def second_steps_after_an_outage(path: Path, *, pending: int, steps: int, room: int) -> tuple[int, int, int]:
    """Lost, sent again and overtaken by their second step, when the sink is back after a restart (F9)."""

    async def run() -> tuple[int, int, int]:
        sink = DownAndUp()
        life = Life(path, sink, room)
        life.decide(pending)
        life.state.close()
        sink.is_down = False
        life = Life(path, sink, room)
        life.decide(steps, "critical")
        await life.deliver()
        life.state.close()
        return pending + steps - len({*sink.accepted}), sink.repeats(), sink.overtaken()

    return asyncio.run(run())
