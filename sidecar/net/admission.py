"""Admission control of a listening port, so that no client can keep Falco out.

Refusing new connections when all slots are taken favours an attacker who opens connections and sends nothing, and
Falco loses an alert for each refusal. So a new connection is always admitted, as a newcomer; when there are too many
newcomers, the one that has been silent the longest is closed. A newcomer's first valid request is always answered, and
promotes it to one of the permanent slots. If none is free, it takes the slot of a connection that has been idle for a
while (libcurl reconnects and sends again, so nothing is lost); if none is idle, it is closed after its response.
"""

import logging
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
"""A connection without a complete request for this long may be closed to make room."""

MAX_NEWCOMERS = 512
"""Connections without a valid request so far. Falco sends its first within a few milliseconds, in which no other
client opens this many connections."""

BACKLOG = 256
"""Connections that the kernel queues, and asyncio accepts in one go: fewer than MAX_NEWCOMERS."""

FREE_BODY_BYTES = 64 * 1024
"""Of each unfinished body, bytes that are not counted."""

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Of all unfinished bodies together, beyond FREE_BODY_BYTES each."""

REFUSALS = ("400", "403", "404", "405", "408", "413", "415", "431", "503", "tls")
"""Why a request or a connection was refused: statuses, and a failed TLS handshake. A fixed set: metric labels."""

UNAUTHORIZED = ("403", "404", "tls")
"""Refusals of senders without the secret path or an accepted certificate."""


class Slot:
    """One connection: its peer, the time of its last valid request, the bytes that count for it, and how to end it."""

    def __init__(self, transport: "asyncio.Transport") -> None:
        self.peer = peer_of(transport)
        self.local = is_loopback(self.peer)
        self.last = 0.0
        self.held = 0
        self.end = transport.abort


class Connections:
    """The connections of one port: at most `capacity` permanent ones, `per_peer` of each peer. `clock` is in seconds.

    `evicted` counts connections that were closed to make room, `refused` refusals by reason, and `unauthorized` those
    listed in `UNAUTHORIZED`.
    """

    def __init__(self, capacity: int, per_peer: int, clock: Callable[[], float]) -> None:
        self.evicted = 0
        self.unauthorized = 0
        self.refused = dict.fromkeys(REFUSALS, 0)
        self._capacity = capacity
        self._per_peer = per_peer
        self.clock = clock
        self._newcomers: dict[Slot, None] = {}
        self._permanent: dict[Slot, None] = {}
        self._held = 0

    def __len__(self) -> int:
        return len(self._newcomers) + len(self._permanent)

    def admit(self, transport: "asyncio.Transport") -> Slot:
        """The slot of a new connection."""
        slot = Slot(transport)
        if len(self._newcomers) >= MAX_NEWCOMERS:
            self._evict(next(iter(self._newcomers)))
        self._newcomers[slot] = None
        return slot

    def promote(self, slot: Slot, now: float) -> bool:
        """Record a valid request; returns whether the connection may stay open after the response."""
        if slot.held:
            self.hold(slot, 0)
        if slot not in self._permanent:
            rivals = self._rivals(slot)
            if rivals is not None and not self._evict_one(rivals):
                return False
            self._newcomers.pop(slot, None)
            self._permanent[slot] = None
        slot.last = now
        return True

    def hold(self, slot: Slot, size: int) -> bool:
        """Record the size of an unfinished body in bytes; returns whether there is room for it."""
        counted = max(size - FREE_BODY_BYTES, 0)
        self._held += counted - slot.held
        slot.held = counted
        return not counted or self._held <= MAX_BODY_BYTES

    def leave(self, slot: Slot) -> None:
        """Remove a connection that has ended."""
        self.hold(slot, 0)
        self._newcomers.pop(slot, None)
        self._permanent.pop(slot, None)

    def end(self) -> None:
        """End all connections."""
        for slot in [*self._newcomers, *self._permanent]:
            slot.end()

    def refuse(self, reason: str) -> None:
        """Count a refusal; the first of its kind, the tenth, the hundredth and so on are logged."""
        self.refused[reason] += 1
        self.unauthorized += reason in UNAUTHORIZED
        count = self.refused[reason]
        if count == 10 ** (len(str(count)) - 1):
            log.warning("a sender was refused", extra={"reason": reason, "count": count})

    def _rivals(self, newcomer: Slot) -> list[Slot] | None:
        """The connections one of which has to go before the newcomer can stay; None if there is a free slot.

        One slot is reserved for loopback.
        """
        same_peer = [slot for slot in self._permanent if slot.peer == newcomer.peer]
        if len(same_peer) >= self._per_peer:
            return same_peer
        remote = [slot for slot in self._permanent if not slot.local]
        if not newcomer.local and len(remote) >= self._capacity - 1:
            return remote
        if len(self._permanent) >= self._capacity:
            return [*self._permanent] if newcomer.local else remote
        return None

    def _evict_one(self, rivals: list[Slot]) -> bool:
        oldest = min(rivals, key=lambda slot: slot.last, default=None)
        if oldest is None or self.clock() - oldest.last <= IDLE_SECONDS:
            return False
        self._evict(oldest)
        return True

    def _evict(self, slot: Slot) -> None:
        self.leave(slot)
        self.evicted += 1
        slot.end()


def peer_of(transport: "asyncio.BaseTransport") -> str:
    """The address of the other side, "" where it has none (a unix socket)."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else ""


def is_loopback(host: str) -> bool:
    """Whether this address is reached from the same machine (or pod) only."""
    if host == "localhost":
        return True
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
