"""Who was seen to listen, and since when that would have been seen: the difference between a server and a job.

A server listens once and then serves for weeks, so this is kept apart from the processes of `lineage`, which
expire after an hour or two, and from the alerts in the state file, which expire after a day. Where Falco dropped
events, the host counts as watched only from then on: what started before is in doubt again. The same holds for a
container whose entries had to make room: those of a program that many short-lived processes listened with go first.
While nobody watched, only what was starting up then can have started to serve unseen.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from sys import intern
from typing import NamedTuple

from sidecar.alerts.ancestry import is_same_start
from sidecar.alerts.canary import MARKER
from sidecar.correlation.memory.process import Process
from sidecar.fair_share import largest_fair_share
from sidecar.model import Alert

MAX_SERVERS = 8_192
"""Listening processes that are remembered, the latest ones."""

KEPT_SERVERS = MAX_SERVERS * 7 // 8
"""Those that stay when room has to be made: for many at a time, since each is looked at."""

MAX_PROGRAMS = 16
"""Programs of a container, or of a host, that have a share each; the others have one together. Files can be copied."""

MAX_HOSTS = 4_096
"""Hosts whose beginning of watching is remembered, and containers that are in doubt."""

SERVING_TAG = "webrce_serves"
"""The tag of the Falco rule that sees programs listen."""

STARTUP_NANOSECONDS = 600 * 1_000_000_000
"""How long a server may take until it listens. A program that ran longer without is a job, also after a pause as long
in which nobody watched; a longer pause leaves everything in doubt."""

_NEVER = 1 << 63

_DEBUGGER = re.compile(r"jdwp=[^ ]*address=[^ ,]+|jmxremote(?:[.]rmi)?[.]port=\d+")

Key = tuple[str, str, int]
"""Host, container, pid. The pid 0 stands for a container that is in doubt: what started before `start` may serve."""


class Listening(NamedTuple):
    """A process that listens: its start time and when it first listened (ns), and its program."""

    start: int
    since: int
    program: str = ""


class Servers:
    """Listening processes by host, container and pid."""

    def __init__(self) -> None:
        self._listening: dict[Key, Listening] = {}
        self._watched_since: dict[str, int] = {}
        self._doubted_until: dict[str, int] = {}
        self._doubted_containers: dict[Key, Listening] = {}
        self._absences: list[tuple[int, int]] = []
        self._changed: dict[Key | str, None] = {}
        """Processes and hosts that `take_changes` has not returned yet."""
        self._evicted: dict[Key, None] = {}

    def __len__(self) -> int:
        return len(self._listening)

    def record(self, alert: Alert) -> None:
        """Note that the process of an alert listens, and that its host is watched."""
        fields = alert.fields
        host, pid, start = alert.host, fields.pid or 0, fields.start or 0
        self.watch(host, alert.time)
        if not pid or _serves_nobody(fields.cmdline or "", fields.remote_port or 0):
            return
        key = host, alert.container, pid
        known = self._listening.pop(key, None)
        if known is not None and is_same_start(known.start, start):
            self._listening[key] = known
            return
        if len(self._listening) >= MAX_SERVERS:
            self._make_room(alert.time)
        self._listening[key] = Listening(start, alert.time, intern(fields.exepath or fields.name or ""))
        self._evicted.pop(key, None)
        self._changed[key] = None

    def watch(self, host: str, time: int) -> None:
        """Note that programs which listen are seen on a host, at least from now on."""
        since = self._watched_since.pop(host, _NEVER)
        if len(self._watched_since) >= MAX_HOSTS:
            evicted = next(iter(self._watched_since))
            del self._watched_since[evicted]
            self._doubted_until.pop(evicted, None)
            self._changed.pop(evicted, None)
        self._watched_since[host] = min(since, time)
        if time < since:
            self._changed[host] = None

    def doubt(self, host: str, time: int) -> None:
        """Note that something on a host may have gone unseen until now (ns)."""
        if host in self._watched_since and time > self._doubted_until.get(host, 0):
            self._doubted_until[host] = time
            self._changed[host] = None

    def absent(self, begin: int, end: int) -> None:
        """Note that nobody watched any host from `begin` to `end` (ns), as before a restart of the service."""
        if end - begin <= STARTUP_NANOSECONDS:
            self._absences.append((begin - STARTUP_NANOSECONDS, end))
            return
        for host in self._watched_since:
            self.doubt(host, end)

    def restore(self, listening: Mapping[Key, tuple[int, int, str]], watched: Mapping[str, tuple[int, int]]) -> None:
        """Take up what `take_changes` returned before a restart, in its order."""
        self._doubted_containers |= {key: Listening(*known) for key, known in listening.items() if not key[2]}
        servers = [(key, Listening(*known)) for key, known in listening.items() if key[2]]
        for key, known in servers[-MAX_SERVERS:]:
            self._listening.setdefault(key, known)
        for host, (since, doubted) in watched.items():
            self._watched_since[host] = since
            self._doubted_until[host] = doubted

    def take_changes(
        self,
    ) -> tuple[dict[Key, tuple[int, int, str]], dict[str, tuple[int, int]], list[Key]]:
        """What changed since the last call.

        Returns:
            Processes that listen, with their start, when they first listened, and their program; hosts that are
            watched, with since when and until when in doubt; and processes that had to make room. All times are ns.
        """
        changed, self._changed = self._changed, {}
        evicted, self._evicted = self._evicted, {}
        keys = [key for key in changed if isinstance(key, tuple)]
        listening = {key: (self._listening if key[2] else self._doubted_containers)[key] for key in keys}
        hosts = [host for host in changed if isinstance(host, str)]
        watched = {host: (self._watched_since[host], self._doubted_until.get(host, 0)) for host in hosts}
        return {**listening}, watched, [*evicted]

    def listens(self, host: str, container: str, process: Process, time: int) -> bool:
        """Whether a process was listening at `time` (ns)."""
        known = self._listening.get((host, container, process.pid))
        return known is not None and known.since <= time and is_same_start(known.start, process.start)

    def was_watched(self, host: str, container: str, start: int) -> bool:
        """Whether a process that started at `start` (ns, 0 unknown) would have been seen to listen, and be known."""
        if start <= self._watched_since.get(host, _NEVER) or start <= self._doubted_until.get(host, 0):
            return False
        doubted = self._doubted_containers.get((host, container, 0))
        return (doubted is None or start > doubted.start) and not _is_within(start, self._absences)

    def _make_room(self, time: int) -> None:
        """Evict the oldest processes of the programs that have most, of the containers that have most."""
        shares: dict[tuple[str, str, str], list[Key]] = {}
        programs: dict[tuple[str, str], dict[str, None]] = {}
        for key, known in self._listening.items():
            own = programs.setdefault(key[:2], {})
            if len(own) < MAX_PROGRAMS:
                own[known.program] = None
            shares.setdefault((*key[:2], known.program if known.program in own else ""), []).append(key)
        most = max(largest_fair_share(map(len, shares.values()), KEPT_SERVERS), 1)
        evicted = [key for keys in shares.values() for key in keys[: max(len(keys) - most, 0)]]
        evicted = evicted or [*islice(self._listening, MAX_SERVERS - KEPT_SERVERS)]
        for key in evicted:
            del self._listening[key]
            self._changed.pop(key, None)
            self._evicted[key] = None
        for place in {key[:2] for key in evicted}:
            self._doubt_container(place, time)

    def _doubt_container(self, place: tuple[str, str], time: int) -> None:
        key = (*place, 0)
        self._doubted_containers.pop(key, None)
        if len(self._doubted_containers) >= MAX_HOSTS:
            oldest = next(iter(self._doubted_containers))
            self.doubt(oldest[0], self._doubted_containers.pop(oldest).start)
            self._changed.pop(oldest, None)
            self._evicted[oldest] = None
        self._doubted_containers[key] = Listening(time, time)
        self._evicted.pop(key, None)
        self._changed[key] = None


def _is_within(start: int, absences: Sequence[tuple[int, int]]) -> bool:
    return any(begin < start <= end for begin, end in absences)


def _serves_nobody(cmdline: str, port: int) -> bool:
    """Whether a process is our canary, or a Java program that was asked for a debugger or monitor at this port."""
    if MARKER in cmdline:  # one a minute would push out all others within a week
        return True
    options = _DEBUGGER.findall(cmdline)
    return port > 0 and any(option.endswith((f":{port}", f"={port}")) for option in options)
