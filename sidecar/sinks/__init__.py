"""Where incidents go. A sink is one class with one method, `send`; retrying, order and queues are stages around it.

`send` returns when the sink has accepted the notification, raises SinkError if it did not (it will be retried) and
Refused if it never will.

Belongs here: one file for each sink, and what sinks share. Does not: queues, order and retries (`delivery`).
"""

from typing import NamedTuple, Protocol

from sidecar.model import Message, Report


class Outgoing(NamedTuple):
    """A message on its way: its delivery key, its JSON, and itself unless it was decided before a restart."""

    key: str
    body: bytes
    message: Message | None


class Sink(Protocol):
    """A place that takes messages. `name` is a metric label, so one of a fixed set."""

    name: str

    async def send(self, out: Outgoing) -> None: ...

    def close(self) -> None: ...


def delivery_key(message: Message, sink: str) -> str:
    """One key for each incident, step and sink: a receiver that sees it twice saw the same notification.

    A step is named by its severity, which only rises: so playing alerts again after a crash names it alike.
    """
    name = message.case if isinstance(message, Report) else message.incident
    step = message.time if isinstance(message, Report) else message.severity
    return f"{name}:{step}:{sink}"
