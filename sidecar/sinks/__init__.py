"""Where incidents go. A sink is one class with one method, `send`; retrying, order and queues are stages around it.

`send` returns when the sink has accepted the notification, raises SinkError if it did not (it will be retried) and
Refused if it never will.

Belongs here: one file for each sink, and what sinks share. Does not: queues, order and retries (`delivery`).
"""

from typing import Protocol

from sidecar.model import Outgoing


class Sink(Protocol):
    """A place that takes messages. `name` is a metric label, so one of a fixed set."""

    name: str

    async def send(self, out: Outgoing) -> None: ...

    def close(self) -> None: ...
