"""Where incidents go. A sink is one class with one method, `send`; retrying, order and queues are stages around it.

`send` returns when the sink has taken the notification, raises SinkError if it did not (it will be tried again) and
Refused if it never will.
"""

from typing import Protocol

from sidecar.model import Message, Report


class Sink(Protocol):
    """A place that takes notifications. `name` is a metric label, so one of a fixed set."""

    name: str

    async def send(self, note: Message) -> None: ...

    def close(self) -> None: ...


def delivery_key(note: Message, sink: str) -> str:
    """One key for each incident, step and sink: a receiver that sees it twice saw the same notification."""
    if isinstance(note, Report):
        return f"{note.case}:{note.time}:{sink}"
    return f"{note.incident}:{note.step}:{sink}"
