"""Who holds a place on a listening port: so many connections in all, so many for each peer, one kept for loopback.

Refusing a newcomer is the wrong way round: whoever holds all places with connections that say nothing would keep Falco
out for good. So a newcomer over a limit takes the place of a connection that has not shown itself yet, or of one that
has been silent for a while (Falco loses nothing by that: libcurl sends anew when a kept connection has gone).
"""

import asyncio
import logging
from collections.abc import Callable
from ipaddress import ip_address

log = logging.getLogger(__name__)

IDLE = 1.0
"""Seconds without a complete request after which a connection may have to make room."""

REFUSALS = ("400", "403", "404", "405", "408", "413", "415", "431", "503", "tls")
"""Why a request or a connection was refused: statuses, and a failed TLS handshake. A fixed set: metric labels."""


class Place:
    """One connection: its peer, when it last sent a complete request, and how to end it."""

    def __init__(self, transport: asyncio.Transport, now: float) -> None:
        self.peer = peer_of(transport)
        self.local = is_loopback(self.peer)
        self.proven = False
        self.last = now
        self.end = transport.abort

    def proves(self, now: float) -> None:
        """It sent a complete request that was welcome."""
        self.proven, self.last = True, now


class Connections:
    """The places of one port. `clock` is in seconds; `pushed_out` counts connections that had to make room."""

    def __init__(self, most: int, per_peer: int, clock: Callable[[], float]) -> None:
        self.pushed_out = 0
        self.refused = dict.fromkeys(REFUSALS, 0)
        self._most = most
        self._per_peer = per_peer
        self._clock = clock
        self._places: dict[Place, None] = {}

    def __len__(self) -> int:
        return len(self._places)

    def admit(self, transport: asyncio.Transport) -> Place | None:
        """A place for a new connection, or None if all that could make room are busy."""
        place = Place(transport, self._clock())
        for rivals in self._too_many(place):
            if not self._made_room(rivals):
                return None
        self._places[place] = None
        return place

    def refuse(self, why: str) -> None:
        """Count a refusal; the first of its kind, the tenth, the hundredth ... are told in the log."""
        self.refused[why] += 1
        count = self.refused[why]
        if str(count).strip("0") == "1":
            log.warning("a sender was refused", extra={"why": why, "count": count})

    def leave(self, place: Place) -> None:
        """The connection has ended."""
        self._places.pop(place, None)

    def prove(self, place: Place) -> None:
        """The connection sent a complete request that was welcome."""
        place.proves(self._clock())

    def _too_many(self, place: Place) -> list[list[Place]]:
        """The sets of connections of which one has to go before there is a place."""
        same = [each for each in self._places if each.peer == place.peer]
        if len(same) >= self._per_peer:
            return [same]
        if len(self._places) >= self._most:
            return [[each for each in self._places if place.local or not each.local]]
        remote = [each for each in self._places if not each.local]
        return [remote] if not place.local and len(remote) >= self._most - 1 else []

    def _made_room(self, rivals: list[Place]) -> bool:
        now = self._clock()
        rivals = [each for each in rivals if not each.proven or now - each.last > IDLE]
        if not rivals:
            return False
        longest = min(rivals, key=lambda each: (each.proven, each.last))
        self.leave(longest)
        self.pushed_out += 1
        longest.end()
        return True


def peer_of(transport: asyncio.BaseTransport) -> str:
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
