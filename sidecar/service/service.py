"""The service: sources, pipeline, pass-through, sinks and the administration port, wired by the settings."""

import asyncio
import logging
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sidecar.admin.listener import AdminListener
from sidecar.alerts.canary import Canary, Traffic
from sidecar.alerts.classify import NOTHING, Classifier, Verdict
from sidecar.correlation.pipeline import Pipeline
from sidecar.delivery.outbox import Outbox
from sidecar.delivery.pass_through import pass_through
from sidecar.delivery.sink_queue import Delivery
from sidecar.model import Alert, Message, Notification
from sidecar.net.http_server import Request, Response
from sidecar.rules.rule import CorrelationRule
from sidecar.service import metrics, sockets
from sidecar.service.health import Health, degraded
from sidecar.service.incident_refresh import Incidents
from sidecar.settings.schema import Settings
from sidecar.sinks import Sink
from sidecar.sinks.grpc.subscribers import Subscribers
from sidecar.sources.http import HttpListener
from sidecar.sources.journal import JournalTail
from sidecar.storage.state import DiskError, Position, State
from sidecar.text.redaction.redactor import Redactor

if TYPE_CHECKING:
    from sidecar.sinks.grpc.server import GrpcServer
    from sidecar.sources.grpc import GrpcPoller

log = logging.getLogger(__name__)

GRACE = 4.0
"""Seconds that queued notifications and alerts get when the service stops; all in all it stops within five."""

STATE_CHECK_SECONDS = 1.0
"""Between two looks at the state file: is it still there, and can what waits for it be written?"""


class Service:
    """Runs until told to stop. `received` counts alerts by source, `notified` notifications by severity."""

    _checking: asyncio.TimerHandle | None = None

    def __init__(
        self,
        settings: Settings,
        rules: Sequence[CorrelationRule],
        sinks: Sequence[Sink],
        state: State | None = None,
        listening: Mapping[str, socket.socket] | None = None,
    ) -> None:
        self.settings = settings
        self.deliveries = [Delivery(sink, settings.sinks.queue_size) for sink in sinks]
        self.outbox = Outbox(state, self.deliveries, anchors(rules))
        redact, remember = Redactor(settings.redaction.key), self.outbox.remember if state else None
        self.pipeline = Pipeline(rules, time.monotonic, time.time_ns, remember, redact)
        self._state = state
        self.received: Counter[str] = Counter()
        self.notified: Counter[str] = Counter()
        self.http = HttpListener(settings.http, self.take_json) if settings.http.enabled else None
        self.grpc: GrpcPoller | None = None
        self.subscribers = next((sink for sink in sinks if isinstance(sink, Subscribers)), None)
        self.server: GrpcServer | None = None
        self.journal: JournalTail | None = None
        self.pass_through = pass_through(settings)
        self.http_port = self.admin_port = 0
        self.health: Health | None = None
        if settings.canary.enabled:
            self.pipeline.canary = Canary(over_grpc=settings.grpc.enabled)
            self.health = Health(
                settings.canary,
                self.pipeline.canary,
                traffic=self._traffic,
                report=lambda report: self._notify([report]),
            )
        self._listening = listening or {}
        self.incidents = Incidents(self.pipeline, self.outbox)
        self._admin = AdminListener(
            not_ready=self._not_ready, metrics=lambda: metrics.exposition(self), pages=self._page
        )
        self._settling: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def folded(self) -> int:
        """Contexts folded under pressure, in the containers that are remembered."""
        return sum(container.contexts.folded for container in self.pipeline.containers)

    async def start(self) -> None:
        """Open ports and connections; the listening ports are in `http_port` and `admin_port` then."""
        self._loop = asyncio.get_running_loop()
        if self._state is not None:
            self._restore(self._state)
        for delivery in self.deliveries:
            delivery.start()
        if self.pass_through is not None:
            self.pass_through.start()
        listening = self._listening or sockets.opened(self.settings.listening_addresses())
        if self.settings.admin.enabled:
            self.admin_port = await self._admin.start(listening["admin"])
        if self.http is not None:
            self.http_port = await self.http.start(listening["http"])
        await self._start_server()
        self._start_readers()
        self.incidents.start()
        self._check_state()
        self._tell_of_the_state()
        log.info("ready", extra={"http_port": self.http_port, "admin_port": self.admin_port})

    async def _start_server(self) -> None:
        if self.subscribers is None:
            return
        from sidecar.sinks.grpc.server import GrpcServer  # noqa: PLC0415 - grpcio costs 16 MB where it is not used

        self.server = GrpcServer(self.subscribers)
        try:
            await self.server.start()
        except OSError as error:
            log.error("gRPC subscribers cannot be served", extra={"error": str(error)})  # noqa: TRY400
            self._degraded(f"gRPC subscribers cannot be served: {error}")

    def _tell_of_the_state(self) -> None:
        """Say once, to the sinks too, that a crash would lose or has lost what should survive it."""
        self.outbox.on_trouble = self._degraded
        if self._state is not None and self._state.set_aside:
            self._degraded(
                f"the state file was damaged; it was moved to {self._state.set_aside} and a new one was created"
            )
        if self._state is None and self.settings.state.path:
            self._degraded("the state file cannot be used, going on in memory: open incidents do not survive a restart")

    def _check_state(self) -> None:
        self.outbox.check()
        self._checking = self._loop.call_later(STATE_CHECK_SECONDS, self._check_state)

    def _degraded(self, text: str) -> None:
        self._loop.call_soon(self._notify, [degraded(text)])

    def _start_readers(self) -> None:
        if self.settings.grpc.enabled:
            from sidecar.sources.grpc import GrpcPoller  # noqa: PLC0415 - grpcio costs 21 MB where it is not used

            self.grpc = GrpcPoller(self.settings.grpc, self._take_from_thread)
            self.grpc.start()
        if self.settings.journal.path:
            position = self._state.position(self.settings.journal.path) if self._state is not None else None
            self.journal = JournalTail(self.settings.journal, position, self.take_journal)
            self.journal.start()
        if self.health is not None:
            self.health.start()

    async def stop(self) -> None:
        """Take nothing more, deliver what is decided, end."""
        if self.health is not None:
            await self.health.stop()
        if self.http is not None:
            await self.http.stop()
        if self.grpc is not None:
            await asyncio.to_thread(self.grpc.stop)
        if self.journal is not None:
            await self.journal.stop()
        self._settle()
        self.incidents.stop()
        if self._checking is not None:
            self._checking.cancel()
        stops = [delivery.stop(GRACE) for delivery in self.deliveries]
        stops += [self.pass_through.stop(GRACE)] if self.pass_through is not None else []
        await asyncio.gather(*stops)
        if self.server is not None:
            await self.server.stop()
        await self._admin.stop()
        if self._state is not None:
            self._state.close()
        log.info("stopped")

    def _restore(self, state: State) -> None:
        """Replay what was remembered; whatever it decides was decided before, or is decided now."""
        began, count, damaged = time.monotonic(), 0, 0
        told = self.outbox.decided(self.subscribers.name) if self.subscribers is not None else {}
        self.outbox.resume()
        try:
            for name, body in state.recall():
                due = self._replayed(name, body)
                count += 1
                if due is None:
                    damaged += 1
                    state.set_alert_aside(name)
                else:
                    self._decide_again(due, told)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            log.error("the state file could not be read to its end", extra={"error": str(error)})  # noqa: TRY400
            self._degraded(f"the state file could not be read to its end: {error}")
        self._decide_again(self.pipeline.flush(), told)
        self.outbox.resumed()
        if damaged:
            self._degraded(f"{damaged} alerts in the state file could not be replayed; they were set aside")
        log.info("restored", extra={"alerts": count, "damaged": damaged, "seconds": round(time.monotonic() - began, 3)})

    def _replayed(self, name: bytes, body: bytes) -> list[Message] | None:
        """What a kept alert leads to; None if it cannot be read, or the pipeline fails on it."""
        try:
            return self.pipeline.restore(name, msgspec.json.decode(body, type=Alert))
        except Exception as error:  # a damaged alert, or a bug: either must cost this alert, not the start
            log.warning("a kept alert could not be replayed", extra={"error": f"{type(error).__name__}: {error}"})
            return None

    def _decide_again(self, due: Sequence[Message], told: Mapping[str, int]) -> None:
        if notes := [message for message in due if isinstance(message, Notification)]:
            self.outbox.decide(notes)
            if self.subscribers is not None:
                self.subscribers.restore(notes, told)

    async def drained(self) -> None:
        """Wait until everything that was decided is delivered."""
        self._settle()
        for delivery in self.deliveries:
            await delivery.drained()

    def take_json(self, body: bytes) -> None:
        """Take one alert from HTTP: apply it, queue what follows from it, and return at once."""
        self.received["http"] += 1
        try:
            verdict, due = self.pipeline.process_json(body)
            if self.server is not None:
                self.server.offer_json(verdict, body)
        except Exception:  # a bug must cost one alert, not the service, and the alert still goes on
            log.exception("an alert could not be correlated")
            self.pipeline.reject("broken")
            verdict, due = NOTHING, []
        if self.pass_through is not None and self._goes_on(verdict):
            self.pass_through.put(body)
        if due or self.pipeline.correlator.pending:
            self._notify(due)

    def _correlated(self, line: bytes) -> list[Message]:  # not a part of take_json: a call is a hundredth of an alert
        try:
            verdict, due = self.pipeline.process_json(line)
            if self.server is not None:
                self.server.offer_json(verdict, line)
        except Exception:  # as above
            log.exception("an alert could not be correlated")
            self.pipeline.reject("broken")
            return []
        return due

    def _goes_on(self, verdict: Verdict) -> bool:
        if self.settings.pass_through.mode == "all":
            return not verdict.is_own_incident
        return not (verdict.is_own_incident or verdict.is_own_detection or verdict.via_falcosidekick)

    def take_journal(self, lines: Sequence[bytes], position: Position) -> None:
        """Take lines of the journal; they and the position after them are kept together or not at all."""
        self.received["journal"] += len(lines)
        due: list[Message] = []
        with self.outbox.reading(self.settings.journal.path, position):
            for line in lines:
                due += self._correlated(line)
        self._notify(due)

    def take_grpc(self, messages: Sequence[bytes]) -> None:
        """Take alerts that one poll of Falco's gRPC output brought."""
        from sidecar.sources.grpc import take  # noqa: PLC0415 - as above

        self.received["grpc"] += len(messages)
        self._notify(take(self.pipeline, messages, self.server.offer if self.server is not None else None))

    def _take_from_thread(self, messages: list[bytes]) -> None:
        done = asyncio.run_coroutine_threadsafe(self._take_grpc_soon(messages), self._loop)
        done.result()

    async def _take_grpc_soon(self, messages: list[bytes]) -> None:
        self.take_grpc(messages)

    def _notify(self, due: Sequence[Message]) -> None:
        for note in due:
            self.notified[note.severity] += 1
        self.outbox.decide(due)
        if due and self._settling is not None:
            self._settling.cancel()
            self._settling = None
        if self.pipeline.correlator.pending and self._settling is None:
            self._settling = self._loop.call_later(self.settings.coalesce.seconds, self._settle)

    def _settle(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        self._notify(self.pipeline.flush())

    def _traffic(self) -> Traffic:
        refused = sum(self.http.connections.refused.values()) if self.http is not None else 0
        return Traffic(self.pipeline.received, self.pipeline.reasons["text_mode"], refused)

    def _page(self, request: Request) -> Response | None:
        from sidecar.admin.api import answer  # noqa: PLC0415 - pages cost 6 MB that a service nobody looks at need not pay

        try:
            return answer(request, self.incidents.current, self.settings.admin)
        except Exception:  # a bug must cost one answer, and be told
            log.exception("an incident page could not be made")
            return Response("500 Internal Server Error", b"a bug; the log has it\n")

    def _not_ready(self) -> str:
        if self.grpc is not None and not self.grpc.connected and self.http is None:
            return "Falco's gRPC output does not answer"
        return ""


def anchors(rules: Sequence[CorrelationRule]) -> Callable[[Alert], bool]:
    """Whether an alert is evidence that contexts hang on, for one of these rules."""
    judge = Classifier(rules).classify

    def anchors_any(alert: Alert) -> bool:
        verdict = judge(alert.rule, alert.tags)
        return any(mask & rules[index].anchoring for index, mask in (*verdict.groups, *verdict.fallback_groups))

    return anchors_any


def make_state(settings: Settings) -> State | None:
    """The state file that the settings name; None without one, and when the disk fails: that is told, loudly.

    Raises:
        StateError: the file must not be used.
    """
    if not settings.state.path:
        return None
    try:
        return State(Path(settings.state.path), keep=settings.state.retention.seconds)
    except DiskError as error:
        log.error("the state file cannot be used, going on in memory", extra={"error": str(error)})  # noqa: TRY400
        return None
