"""The sink behind the gRPC server: it keeps the last messages, and gives each subscriber all of them.

Everything here happens on the service's event loop and nothing waits: a subscriber that reads too slowly loses its own
oldest messages, which are counted, and delays no other subscriber.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from sidecar.correlation.notification import SECOND_NS
from sidecar.incidents.falco_event import to_json
from sidecar.model import Message
from sidecar.settings.sinks import GrpcSink
from sidecar.sinks import Outgoing, delivery_key

KINDS = ("incident", "alert")


class Kept(NamedTuple):
    """A message that may be given again: its key, its JSON, itself (unless from before a restart), when (ns)."""

    key: str
    body: bytes
    message: Message | None
    at: int


class Subscriber:
    """One reader. `encode` makes the bytes that it is sent of a message, or says that it does not want it."""

    def __init__(self, encode: Callable[[Kept], bytes | None], *, room: int, alerts: bool) -> None:
        self.alerts = alerts
        self._encode = encode
        self._room = room
        self._incidents: deque[Kept] = deque()
        self._raw: deque[bytes] = deque()
        self._filled = asyncio.Event()
        self._ending = False

    def put(self, item: Kept) -> int:
        """Queue a message; returns how many were lost by it."""
        self._filled.set()
        self._incidents.append(item)
        return _cut(self._incidents, self._room)

    def put_alert(self, data: bytes) -> int:
        """Queue a raw alert. These have a queue of their own: a flood of them pushes out no incident."""
        self._filled.set()
        self._raw.append(data)
        return _cut(self._raw, self._room)

    def end(self) -> None:
        """Let the reader have what is queued, and then its end."""
        self._ending = True
        self._filled.set()

    async def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        """Kind and bytes of each message, incidents before alerts."""
        while True:
            while self._incidents or self._raw:
                kind, data = KINDS[not self._incidents], self._next()
                if data is not None:
                    yield kind, data
            if self._ending:
                return
            self._filled.clear()
            await self._filled.wait()

    def _next(self) -> bytes | None:
        return self._encode(self._incidents.popleft()) if self._incidents else self._raw.popleft()


class Subscribers:
    """A sink that takes at once. `counts` is by kind and outcome (`sent`, `dropped`), `wall` the time of day in ns."""

    name = "grpc"

    def __init__(self, settings: GrpcSink, wall: Callable[[], int] = time.time_ns) -> None:
        self.settings = settings
        self.counts: Counter[tuple[str, str]] = Counter()
        self._wall = wall
        self._kept: deque[Kept] = deque(maxlen=settings.history_size)
        self._readers: set[Subscriber] = set()

    def __len__(self) -> int:
        return len(self._readers)

    @property
    def want_alerts(self) -> bool:
        """Whether any subscriber would get a raw alert."""
        return any(reader.alerts for reader in self._readers)

    async def send(self, out: Outgoing) -> None:
        """Keep it, and queue it for everybody."""
        if any(out.key == each.key for each in self._kept):
            return
        item = Kept(out.key, out.body, out.message, self._wall())
        self._kept.append(item)
        for reader in self._readers:
            self._lost("incident", reader.put(item))

    def restore(self, messages: Sequence[Message], decided: Mapping[str, int]) -> None:
        """Keep what was decided before a restart, without sending it; `decided` says when (seconds), by key."""
        for message in messages[-self.settings.history_size :]:
            key = delivery_key(message, self.name)
            at = decided[key] * SECOND_NS if key in decided else self._wall()
            self._kept.append(Kept(key, to_json(message), message, at))

    def alert(self, data: bytes) -> None:
        """Queue a raw alert for everybody who wants them."""
        for reader in self._readers:
            if reader.alerts:
                self._lost("alert", reader.put_alert(data))

    def close(self) -> None:
        """Everybody gets what is queued and then the end of the stream."""
        for reader in self._readers:
            reader.end()

    def kept(self, after: str = "") -> list[Kept]:
        """What is kept, oldest first: what is behind the key `after`, all if that is unknown; "": what is recent."""
        kept = list(self._kept)
        if not after:
            return [each for each in kept if each.at >= self._wall() - self.settings.history_age]
        behind = next((number for number, each in enumerate(kept, 1) if each.key == after), 0)
        return kept[behind:]

    @contextmanager
    def joined(self, reader: Subscriber, after: str = "") -> Iterator[Subscriber]:
        """Give a reader what is kept, and everything that comes while this lasts."""
        for item in self.kept(after):
            self._lost("incident", reader.put(item))
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def _lost(self, kind: str, count: int) -> None:
        self.counts[kind, "dropped"] += count


def _cut(items: deque[Kept] | deque[bytes], room: int) -> int:
    over = max(0, len(items) - room)
    for _ in range(over):
        items.popleft()
    return over
