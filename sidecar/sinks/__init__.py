"""Where incidents go. A sink is one class with one method, `send`; retrying, order and queues are stages around it.

`send` returns when the sink has taken the notification, raises SinkError if it did not (it will be tried again) and
Refused if it never will.
"""

from typing import Protocol

from sidecar.model import Notification


class Sink(Protocol):
    """A place that takes notifications. `name` is a metric label, so one of a fixed set."""

    name: str

    async def send(self, note: Notification) -> None: ...

    def close(self) -> None: ...


def delivery_key(note: Notification, sink: str) -> str:
    """One key for each incident, step and sink: a receiver that sees it twice saw the same notification."""
    return f"{note.incident}:{note.step}:{sink}"
