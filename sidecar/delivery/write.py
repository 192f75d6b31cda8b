"""One write of the state file: what it is made of, and the transaction that it becomes."""

from typing import NamedTuple

from msgspec import Struct, field

from sidecar.delivery.schedule import Pending
from sidecar.delivery.sink_queue import Delivery
from sidecar.delivery.unwritten import Unwritten
from sidecar.model import Notification, Outgoing
from sidecar.storage.servers import ServerRows
from sidecar.storage.state import Batch, Position


class Decision(NamedTuple):
    """Messages that were decided together: for the sinks, and the incidents whose steps they are."""

    outgoing: list[tuple[Delivery, Outgoing]]
    incidents: list[Notification]


class Todo(Struct):
    """What waits for the next write, beside alerts; see `Batch`."""

    decisions: list[Decision] = []
    positions: dict[str, Position] = {}
    refreshed: dict[str, Notification] = {}
    lost_events: dict[str, None] = {}
    servers: ServerRows = field(default_factory=ServerRows)
    now: int = 0
    look_after: bool = False


class Write(Struct):
    """What is on its way into the file.

    `unstored` are messages that the file could not take before, `unmarked` those that a sink accepted since, and
    `archived` rows of the archive in memory.
    """

    alerts: list[Unwritten]
    todo: Todo
    unstored: dict[str, tuple[Pending, Delivery]]
    unmarked: dict[str, Outgoing]
    archived: list[tuple[object, ...]]

    def batch(self) -> Batch:
        """The transaction; messages that waited longer come first."""
        decisions = self.todo.decisions
        again = [item.out or Outgoing(item.key, b"", None, item.place) for item, _ in self.unstored.values()]
        return Batch(
            alerts=[alert for alert, _ in self.alerts],
            decided=again + [out for decision in decisions for _, out in decision.outgoing],
            incidents=[note for decision in decisions for note in decision.incidents],
            delivered=list(self.unmarked.values()),
            refreshed=list(self.todo.refreshed.values()),
            lost_events=list(self.todo.lost_events),
            now=self.todo.now,
            positions=self.todo.positions,
            archived=self.archived,
            servers=self.todo.servers,
            look_after=self.todo.look_after,
        )
