"""What a container's files turned out to be: secrets by device and inode, and programs by when they were first seen."""

from sidecar.alerts.ancestry import is_same_start
from sidecar.model import Alert, Fields

MAX_SECRETS = 16
"""Secrets of a container that are recognised whatever name they are opened by. A pod has a token or two."""

MAX_CONNECTIONS = 16
"""Connections of a container's processes that count if their process turns out to run dropped code."""

MAX_PROGRAMS = 32
"""Programs on the upper layer of a container whose first sight is remembered."""


class Files:
    """The files of one container that are worth remembering. When full, it evicts the earliest entries."""

    __slots__ = ("_connections", "_first_seen", "_secrets", "served_since")

    def __init__(self) -> None:
        self._secrets: dict[tuple[str, int], str] = {}
        self._first_seen: dict[str, int] = {}
        self._connections: dict[int, Alert] = {}
        self.served_since = 0
        """Time (ns) of the first listening socket that was seen in the container; 0 while unknown."""

    def learn_secret(self, fields: Fields) -> None:
        """Remember the file of an event as a secret."""
        key = _identity(fields)
        if key is None or key in self._secrets:
            return
        if len(self._secrets) >= MAX_SECRETS:
            del self._secrets[next(iter(self._secrets))]
        self._secrets[key] = fields.file or ""

    def secret(self, fields: Fields) -> str:
        """The name by which the file of an event was known as a secret before; "" if it was not."""
        key = _identity(fields)
        return self._secrets.get(key, "") if key is not None else ""

    def learn_connection(self, alert: Alert) -> None:
        """Remember the latest connection of a process, which may open the code that made it only later."""
        pid = alert.fields.pid or 0
        self._connections.pop(pid, None)
        if len(self._connections) >= MAX_CONNECTIONS:
            del self._connections[next(iter(self._connections))]
        self._connections[pid] = alert

    def take_connection(self, fields: Fields) -> Alert | None:
        """The connection that is remembered of the process of an event, removed."""
        alert = self._connections.pop(fields.pid or 0, None)
        if alert is None or not is_same_start(alert.fields.start or 0, fields.start or 0):
            return None
        return alert

    def learn_serving(self, time: int) -> None:
        """Remember that a program of the container began to listen at `time` (ns)."""
        if not self.served_since or time < self.served_since:
            self.served_since = time

    def learn_program(self, path: str, time: int) -> None:
        """Remember that a program on the upper layer was run at `time` (ns)."""
        known = self._first_seen.get(path)
        if known is None and len(self._first_seen) >= MAX_PROGRAMS:
            del self._first_seen[next(iter(self._first_seen))]
        if known is None or time < known:
            self._first_seen[path] = time

    def is_older_than_service(self, path: str) -> bool:
        """Whether a program was seen before the container's service began to serve. False in doubt."""
        first = self._first_seen.get(path)
        return first is not None and 0 < first < self.served_since


def _identity(fields: Fields) -> tuple[str, int] | None:
    return (fields.device, fields.inode) if fields.device and fields.inode else None
