"""Who was seen to listen, and since when that would have been seen: the difference between a server and a job.

A server listens once and then serves for weeks, so this is kept apart from the processes of `lineage`, which
expire after an hour or two. Where an entry had to make room, and where Falco dropped events, the host counts as
watched only from then on: what started before is in doubt again.
"""

import re

from sidecar.alerts.ancestry import is_same_start
from sidecar.correlation.memory.process import Process
from sidecar.model import Alert

MAX_SERVERS = 8_192
"""Listening processes that are remembered, the latest ones."""

MAX_HOSTS = 4_096
"""Hosts whose beginning of watching is remembered."""

SERVING_TAG = "webrce_serves"
"""The tag of the Falco rule that sees programs listen."""

_NEVER = 1 << 63

_DEBUGGER = re.compile(r"jdwp=[^ ]*address=[^ ,]+|jmxremote(?:[.]rmi)?[.]port=\d+")

Key = tuple[str, str, int]
"""Host, container, pid."""


class Servers:
    """Listening processes by host, container and pid, each with its start time and when it first listened (ns)."""

    def __init__(self) -> None:
        self._listening: dict[Key, tuple[int, int]] = {}
        self._watched_since: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._listening)

    def record(self, alert: Alert) -> None:
        """Note that the process of an alert listens, and that its host is watched."""
        host, pid, start = alert.host, alert.fields.pid or 0, alert.fields.start or 0
        self.watch(host, alert.time)
        if _is_for_debugging(alert.fields.cmdline or "", alert.fields.remote_port or 0):
            return
        key = host, alert.container, pid
        known = self._listening.pop(key, None)
        if known is not None and is_same_start(known[0], start):
            self._listening[key] = known
            return
        if len(self._listening) >= MAX_SERVERS:
            oldest = next(iter(self._listening))
            del self._listening[oldest]
            self.doubt(oldest[0], alert.time)
        self._listening[key] = start, alert.time

    def watch(self, host: str, time: int) -> None:
        """Note that programs which listen are seen on a host, at least from now on."""
        since = self._watched_since.pop(host, _NEVER)
        if len(self._watched_since) >= MAX_HOSTS:
            del self._watched_since[next(iter(self._watched_since))]
        self._watched_since[host] = min(since, time)

    def doubt(self, host: str, time: int) -> None:
        """Note that something on a host may have gone unseen until now (ns)."""
        if host in self._watched_since:
            self._watched_since[host] = max(self._watched_since[host], time)

    def doubt_all(self) -> None:
        """Note that alerts of every host may have been lost: after a restart."""
        self._watched_since.clear()

    def listens(self, host: str, container: str, process: Process, time: int) -> bool:
        """Whether a process was listening at `time` (ns)."""
        known = self._listening.get((host, container, process.pid))
        return known is not None and known[1] <= time and is_same_start(known[0], process.start)

    def was_watched(self, host: str, start: int) -> bool:
        """Whether a process that started at `start` (ns, 0 unknown) would have been seen to listen."""
        return start > self._watched_since.get(host, _NEVER)


def _is_for_debugging(cmdline: str, port: int) -> bool:
    """Whether a Java program was asked for a debugger or monitor at this port, which does not serve."""
    options = _DEBUGGER.findall(cmdline)
    return port > 0 and any(option.endswith((f":{port}", f"={port}")) for option in options)
