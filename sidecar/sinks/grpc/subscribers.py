"""The sink behind the gRPC server: it keeps recent messages and sends each of them to every subscriber.

Everything here happens on the service's event loop and nothing waits: a subscriber that reads too slowly loses its own
oldest messages, which are counted, and delays no other subscriber.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from sidecar.correlation.notification import SECOND_NS
from sidecar.incidents.falco_event import Origin, to_json
from sidecar.model import Message, Outgoing, delivery_key
from sidecar.settings.sinks import GrpcSinkSettings

KINDS = ("incident", "alert")


class Subscriber:
    """One reader. `encode` turns a message into the bytes to send, or returns None for one that it did not ask for."""

    def __init__(self, encode: Callable[[Outgoing], bytes | None], *, room: int, alerts: bool) -> None:
        self.alerts = alerts
        self._encode = encode
        self._room = room
        self._incidents: deque[Outgoing] = deque()
        self._raw: deque[bytes] = deque()
        self._filled = asyncio.Event()
        self._ending = False

    def put(self, item: Outgoing) -> int:
        """Queue a message; returns how many older ones were dropped for it."""
        self._filled.set()
        self._incidents.append(item)
        return _cut(self._incidents, self._room)

    def put_alert(self, data: bytes) -> int:
        """Queue a raw alert. Raw alerts have a queue of their own, so that a flood of them displaces no incident."""
        self._filled.set()
        self._raw.append(data)
        return _cut(self._raw, self._room)

    def end(self) -> None:
        """End the stream after what is queued."""
        self._ending = True
        self._filled.set()

    async def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        """Kind and bytes of each message, incidents before alerts."""
        while True:
            while self._incidents or self._raw:
                kind = KINDS[not self._incidents]
                data = self._next()
                if data is not None:
                    yield kind, data
            if self._ending:
                return
            self._filled.clear()
            await self._filled.wait()

    def _next(self) -> bytes | None:
        return self._encode(self._incidents.popleft()) if self._incidents else self._raw.popleft()


class Subscribers:
    """A sink that accepts every message at once.

    `counts` is by kind and outcome (`sent`, `dropped`); `wall` is the time of day in nanoseconds.
    """

    name = "grpc"
    origin = Origin()

    def __init__(self, settings: GrpcSinkSettings, wall: Callable[[], int] = time.time_ns) -> None:
        self.settings = settings
        self.counts: Counter[tuple[str, str]] = Counter()
        self._wall = wall
        self._history: deque[tuple[int, Outgoing]] = deque(maxlen=settings.history_size)
        """When each message was decided (ns), and the message."""
        self._readers: set[Subscriber] = set()

    def __len__(self) -> int:
        return len(self._readers)

    @property
    def want_alerts(self) -> bool:
        """Whether any subscriber would get a raw alert."""
        return any(reader.alerts for reader in self._readers)

    async def send(self, out: Outgoing) -> None:
        """Keep a message, and queue it for every subscriber."""
        if any(out.key == kept.key for _, kept in self._history):
            return
        self._history.append((self._wall(), out))
        for reader in self._readers:
            self._count_dropped("incident", reader.put(out))

    def restore(self, messages: Sequence[Message], decided: Mapping[str, int]) -> None:
        """Keep what was decided before a restart, without sending it; `decided` says when (seconds), by key."""
        for message in messages[-self.settings.history_size :]:
            key = delivery_key(message, self.name)
            at = decided[key] * SECOND_NS if key in decided else self._wall()
            self._history.append((at, Outgoing(key, to_json(message, self.origin), message)))

    def alert(self, data: bytes) -> None:
        """Queue a raw alert for every subscriber that asked for alerts."""
        for reader in self._readers:
            if reader.alerts:
                self._count_dropped("alert", reader.put_alert(data))

    def close(self) -> None:
        """End every stream after what is queued for it."""
        for reader in self._readers:
            reader.end()

    def history(self, after: str = "") -> list[Outgoing]:
        """The messages that followed the one with the key `after`, oldest first.

        All that are kept if that one is not among them; without a key, those of the last `history_age`.
        """
        if not after:
            since = self._wall() - self.settings.history_age
            return [out for at, out in self._history if at >= since]
        messages = [out for _, out in self._history]
        start = next((number for number, out in enumerate(messages, 1) if out.key == after), 0)
        return messages[start:]

    @contextmanager
    def joined(self, reader: Subscriber, after: str = "") -> Iterator[Subscriber]:
        """Subscribe a reader: it gets the history, and every new message until the context ends."""
        for item in self.history(after):
            self._count_dropped("incident", reader.put(item))
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def _count_dropped(self, kind: str, count: int) -> None:
        self.counts[kind, "dropped"] += count


def _cut(items: deque[Outgoing] | deque[bytes], room: int) -> int:
    over = max(0, len(items) - room)
    for _ in range(over):
        items.popleft()
    return over
