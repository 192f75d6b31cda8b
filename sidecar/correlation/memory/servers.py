"""Who was seen to listen, and since when that would have been seen: the difference between a server and a job.

A server listens once and then serves for weeks, so this is kept apart from the processes of `lineage`, which
expire after an hour or two, and from the alerts in the state file, which expire after a day. Where an entry had to make
room, and where Falco dropped events, the host counts as watched only from then on: what started before is in doubt
again. While nobody watched, only what was starting up then can have started to serve unseen.
"""

import re
from collections.abc import Mapping, Sequence

from sidecar.alerts.ancestry import is_same_start
from sidecar.alerts.canary import MARKER
from sidecar.correlation.memory.process import Process
from sidecar.model import Alert

MAX_SERVERS = 8_192
"""Listening processes that are remembered, the latest ones."""

MAX_HOSTS = 4_096
"""Hosts whose beginning of watching is remembered."""

SERVING_TAG = "webrce_serves"
"""The tag of the Falco rule that sees programs listen."""

STARTUP_NANOSECONDS = 600 * 1_000_000_000
"""How long a server may take until it listens. A program that ran longer without is a job, also after a pause as long
in which nobody watched; a longer pause leaves everything in doubt."""

_NEVER = 1 << 63

_DEBUGGER = re.compile(r"jdwp=[^ ]*address=[^ ,]+|jmxremote(?:[.]rmi)?[.]port=\d+")

Key = tuple[str, str, int]
"""Host, container, pid."""


class Servers:
    """Listening processes by host, container and pid, each with its start time and when it first listened (ns)."""

    def __init__(self) -> None:
        self._listening: dict[Key, tuple[int, int]] = {}
        self._watched_since: dict[str, int] = {}
        self._doubted_until: dict[str, int] = {}
        self._absences: list[tuple[int, int]] = []
        self._changed: dict[Key | str, None] = {}
        """Processes and hosts that `take_changes` has not returned yet."""

    def __len__(self) -> int:
        return len(self._listening)

    def record(self, alert: Alert) -> None:
        """Note that the process of an alert listens, and that its host is watched."""
        host, pid, start = alert.host, alert.fields.pid or 0, alert.fields.start or 0
        self.watch(host, alert.time)
        if _serves_nobody(alert.fields.cmdline or "", alert.fields.remote_port or 0):
            return
        key = host, alert.container, pid
        known = self._listening.pop(key, None)
        if known is not None and is_same_start(known[0], start):
            self._listening[key] = known
            return
        if len(self._listening) >= MAX_SERVERS:
            oldest = next(iter(self._listening))
            del self._listening[oldest]
            self._changed.pop(oldest, None)
            self.doubt(oldest[0], alert.time)
        self._listening[key] = start, alert.time
        self._changed[key] = None

    def watch(self, host: str, time: int) -> None:
        """Note that programs which listen are seen on a host, at least from now on."""
        since = self._watched_since.pop(host, _NEVER)
        if len(self._watched_since) >= MAX_HOSTS:
            forgotten = next(iter(self._watched_since))
            del self._watched_since[forgotten]
            self._doubted_until.pop(forgotten, None)
            self._changed.pop(forgotten, None)
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

    def restore(self, listening: Mapping[Key, tuple[int, int]], watched: Mapping[str, tuple[int, int]]) -> None:
        """Take up what `take_changes` returned before a restart."""
        for key, known in listening.items():
            self._listening.setdefault(key, known)
        for host, (since, doubted) in watched.items():
            self._watched_since[host] = since
            self._doubted_until[host] = doubted

    def take_changes(self) -> tuple[dict[Key, tuple[int, int]], dict[str, tuple[int, int]]]:
        """What changed since the last call.

        Returns:
            Processes that listen, with their start and when they first listened, and hosts that are watched, with
            since when and until when in doubt. All times are ns.
        """
        changed, self._changed = self._changed, {}
        listening = {key: self._listening[key] for key in changed if isinstance(key, tuple)}
        hosts = [host for host in changed if isinstance(host, str)]
        return listening, {host: (self._watched_since[host], self._doubted_until.get(host, 0)) for host in hosts}

    def listens(self, host: str, container: str, process: Process, time: int) -> bool:
        """Whether a process was listening at `time` (ns)."""
        known = self._listening.get((host, container, process.pid))
        return known is not None and known[1] <= time and is_same_start(known[0], process.start)

    def was_watched(self, host: str, start: int) -> bool:
        """Whether a process that started at `start` (ns, 0 unknown) would have been seen to listen."""
        if start <= self._watched_since.get(host, _NEVER) or start <= self._doubted_until.get(host, 0):
            return False
        return not _is_within(start, self._absences)


def _is_within(start: int, absences: Sequence[tuple[int, int]]) -> bool:
    return any(begin < start <= end for begin, end in absences)


def _serves_nobody(cmdline: str, port: int) -> bool:
    """Whether a process is our canary, or a Java program that was asked for a debugger or monitor at this port."""
    if MARKER in cmdline:  # one a minute would push out all others within a week
        return True
    options = _DEBUGGER.findall(cmdline)
    return port > 0 and any(option.endswith((f":{port}", f"={port}")) for option in options)
