"""Where every source passes its alerts: they are processed, and the messages that follow are queued at once.

A bug must cost one alert, not the service, so exceptions of the pipeline end here: they are logged and counted as
`broken`, and the alert is passed through all the same.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sidecar.alerts.classify import NOTHING, Verdict
from sidecar.correlation.pipeline import Pipeline
from sidecar.delivery.first_match import FirstMatch
from sidecar.delivery.outbox import Outbox
from sidecar.delivery.pass_through import PassThroughQueue
from sidecar.model import Message
from sidecar.settings.schema import Settings
from sidecar.storage.state import Position

if TYPE_CHECKING:
    from sidecar.sinks.grpc.server import GrpcServer

log = logging.getLogger(__name__)


class Intake:
    """Connects the sources with the pipeline and the outputs.

    `received` counts alerts by source, `notified` notifications by severity. `server`, once it is started,
    gets raw alerts for its gRPC subscribers.
    """

    def __init__(
        self, settings: Settings, pipeline: Pipeline, outbox: Outbox, pass_through: PassThroughQueue | None
    ) -> None:
        self.received: Counter[str] = Counter()
        self.notified: Counter[str] = Counter()
        self.server: GrpcServer | None = None
        self._journal_path = settings.journal.path
        self._passes_all = settings.pass_through.mode == "all"
        self._is_first = FirstMatch() if settings.pass_through.match == "first" else None
        self._settings = settings
        self._pipeline = pipeline
        self._outbox = outbox
        self._pass_through = pass_through
        self._flush_timer: asyncio.TimerHandle | None = None

    def take_json(self, body: bytes) -> None:
        """Take one alert from HTTP."""
        self.received["http"] += 1
        verdict, due = self._feed(body)
        if self._pass_through is not None and self._is_passed(verdict):
            if self._is_first is None or verdict.is_own_detection or self._is_first(body):
                self._pass_through.put(body)
            else:
                self._pass_through.counts["withheld"] += 1
        if due or self._pipeline.is_waiting:
            self.notify(due)

    def take_journal(self, lines: Sequence[bytes], position: Position) -> None:
        """Take lines of the journal; the position after them is stored with or after them."""
        self.received["journal"] += len(lines)
        due: list[Message] = []
        for line in lines:
            due += self._feed(line)[1]
        self._outbox.note_position(self._journal_path, position)
        self.notify(due)

    def take_grpc(self, messages: Sequence[bytes]) -> None:
        """Take the alerts that one poll of Falco's gRPC output returned."""
        from sidecar.sources.grpc import take  # noqa: PLC0415 - grpcio costs memory where it is not used

        self.received["grpc"] += len(messages)
        self.notify(take(self._pipeline, messages, self.server.offer if self.server is not None else None))

    def from_thread(self, loop: asyncio.AbstractEventLoop) -> Callable[[list[bytes]], None]:
        """`take_grpc` for another thread, which waits until the event loop has taken the alerts."""

        async def taken(messages: list[bytes]) -> None:
            self.take_grpc(messages)

        return lambda messages: asyncio.run_coroutine_threadsafe(taken(messages), loop).result()

    def notify(self, due: Sequence[Message]) -> None:
        """Commit and send messages; those that wait for more alerts of the same event follow within `coalesce`."""
        for message in due:
            self.notified[message.severity] += 1
        self._outbox.decide(due)
        if due:
            self._cancel_flush()
        if self._pipeline.is_waiting and self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(self._settings.coalesce.seconds, self.flush)

    def flush(self) -> None:
        """Send what waits for more alerts of the same event."""
        self._cancel_flush()
        self.notify(self._pipeline.flush())

    def _cancel_flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None

    def _feed(self, body: bytes) -> tuple[Verdict, list[Message]]:
        try:
            verdict, due = self._pipeline.process_json(body)
            if self.server is not None:
                self.server.offer_json(verdict, body)
        except Exception:
            log.exception("an alert could not be correlated")
            self._pipeline.reject("broken")
            return NOTHING, []
        return verdict, due

    def _is_passed(self, verdict: Verdict) -> bool:
        if self._passes_all:
            return not verdict.is_own_incident
        return not (verdict.is_own_incident or verdict.is_own_detection or verdict.via_falcosidekick)
