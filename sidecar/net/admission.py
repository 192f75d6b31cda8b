"""Admission control of a listening port, so that no client can keep Falco out.

Refusing new connections when all slots are taken favours an attacker who opens connections and sends nothing, and
Falco loses an alert for each refusal. So a new connection always enters a waiting room, where the one that has been
silent the longest is closed to make room. It leaves with its first valid request, which is always answered. Only then
does it need a permanent slot: that of a connection that has been idle for a while (libcurl sends again when a kept
connection is gone, so nothing is lost), or, if there is none, it is closed after its response.
"""

import logging
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger(__name__)

IDLE = 1.0
"""Seconds without a complete request after which a connection may have to make room."""

WAITING = 512
"""New connections without a valid request yet. Falco sends its first within a few milliseconds, in which no other
client opens so many connections."""

BACKLOG = 256
"""Connections that the system holds for us, and asyncio accepts at once: fewer than find room while they wait."""

SMALL, HELD = 64 * 1024, 16 * 1024 * 1024
"""Bytes of an unfinished body that count for nothing, and what all unfinished bodies together may have beyond them."""

REFUSALS = ("400", "403", "404", "405", "408", "413", "415", "431", "503", "tls")
"""Why a request or a connection was refused: statuses, and a failed TLS handshake. A fixed set: metric labels."""

STRANGERS = ("403", "404", "tls")
"""Refusals of senders who could not show that they may speak."""


class Slot:
    """One connection: its peer, when it last sent a valid request, what it holds, and how to end it."""

    def __init__(self, transport: "asyncio.Transport") -> None:
        self.peer = peer_of(transport)
        self.local = is_loopback(self.peer)
        self.last = 0.0
        self.held = 0
        self.end = transport.abort


class Connections:
    """The places of one port: at most `most` to stay, `per_peer` of each peer. `clock` is in seconds.

    `pushed_out` counts connections that had to make room, `refused` what was refused, by reason, and `strangers` the
    refusals listed in `STRANGERS`.
    """

    def __init__(self, most: int, per_peer: int, clock: Callable[[], float]) -> None:
        self.pushed_out = self.strangers = 0
        self.refused = dict.fromkeys(REFUSALS, 0)
        self._most = most
        self._per_peer = per_peer
        self.clock = clock
        self._waiting: dict[Slot, None] = {}
        self._kept: dict[Slot, None] = {}
        self._held = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._kept)

    def admit(self, transport: "asyncio.Transport") -> Slot:
        """A place in the waiting room for a new connection."""
        place = Slot(transport)
        if len(self._waiting) >= WAITING:
            self._push_out(next(iter(self._waiting)))
        self._waiting[place] = None
        return place

    def prove(self, place: Slot, now: float) -> bool:
        """Record a valid request; returns whether the connection may stay open after the response."""
        if place.held:
            self.hold(place, 0)
        if place not in self._kept:
            if not all(self._made_room(rivals) for rivals in self._too_many(place)):
                return False
            self._waiting.pop(place, None)
            self._kept[place] = None
        place.last = now
        return True

    def hold(self, place: Slot, size: int) -> bool:
        """The connection holds an unfinished body of this size; says whether there is room for it."""
        beyond = max(size - SMALL, 0)
        self._held += beyond - place.held
        place.held = beyond
        return not beyond or self._held <= HELD

    def leave(self, place: Slot) -> None:
        """The connection has ended."""
        self.hold(place, 0)
        self._waiting.pop(place, None)
        self._kept.pop(place, None)

    def end(self) -> None:
        """End all connections."""
        for place in [*self._waiting, *self._kept]:
            place.end()

    def refuse(self, why: str) -> None:
        """Count a refusal; the first of its kind, the tenth, the hundredth ... are logged."""
        self.refused[why] += 1
        self.strangers += why in STRANGERS
        count = self.refused[why]
        if str(count).strip("0") == "1":
            log.warning("a sender was refused", extra={"why": why, "count": count})

    def _too_many(self, place: Slot) -> Iterable[list[Slot]]:
        """The connections of which one has to go before this one may stay; one place is kept for loopback."""
        same = [each for each in self._kept if each.peer == place.peer]
        if len(same) >= self._per_peer:
            yield same
            return
        remote = [each for each in self._kept if not each.local]
        if not place.local and len(remote) >= self._most - 1:
            yield remote
        elif len(self._kept) >= self._most:
            yield [*self._kept] if place.local else remote

    def _made_room(self, rivals: list[Slot]) -> bool:
        longest = min(rivals, key=lambda each: each.last, default=None)
        if longest is None or self.clock() - longest.last <= IDLE:
            return False
        self._push_out(longest)
        return True

    def _push_out(self, place: Slot) -> None:
        self.leave(place)
        self.pushed_out += 1
        place.end()


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
