"""The service: sources, pipeline, pass-through, sinks and the administration port, wired by the settings."""

import asyncio
import logging
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.admin.listener import AdminListener
from sidecar.admin.reload import Reloader
from sidecar.alerts.canary import Canary, Traffic
from sidecar.correlation.pipeline import Pipeline
from sidecar.delivery.disk import DiskThread
from sidecar.delivery.outbox import Outbox
from sidecar.delivery.pass_through import pass_through
from sidecar.delivery.sink_queue import Delivery
from sidecar.expectations.entries import Expectations
from sidecar.incidents.falco_event import Origin
from sidecar.incidents.refresh import IncidentRefresh
from sidecar.incidents.why import explain
from sidecar.meaning import tables
from sidecar.net.http_server import Request, Response
from sidecar.rules.rule import CorrelationRule
from sidecar.service import logs, metrics, sockets
from sidecar.service.health import Health, degraded
from sidecar.service.intake import Intake
from sidecar.service.restore import Restore, anchors
from sidecar.settings.schema import Settings
from sidecar.settings.section import take_over
from sidecar.sinks import Sink
from sidecar.sinks.grpc.subscribers import Subscribers
from sidecar.sources.http import HttpListener
from sidecar.sources.journal import JournalTail
from sidecar.storage.state import State
from sidecar.text.redaction.patterns import with_added
from sidecar.text.redaction.redactor import Redactor

if TYPE_CHECKING:
    from sidecar.sinks.grpc.server import GrpcServer
    from sidecar.sources.grpc import GrpcPoller

log = logging.getLogger(__name__)

GRACE_SECONDS = 4.0
"""How long queued notifications and alerts are still sent when the service stops; it stops within five seconds."""

STATE_CHECK_SECONDS = 1.0
"""Interval of the checks whether the state file still exists, and whether what waits for it can be written."""


def redactor(settings: Settings) -> Redactor:
    """What masks secrets, with the user's own patterns."""
    return Redactor(settings.redaction.key, with_added(settings.redaction.tokens()))


class Service:
    """Everything that a running correlator consists of, made from its settings."""

    grpc: "GrpcPoller | None" = None
    server: "GrpcServer | None" = None
    journal: JournalTail | None = None
    health: Health | None = None
    http_port = admin_port = 0
    _checking: asyncio.TimerHandle | None = None

    def __init__(
        self,
        settings: Settings,
        rules: Sequence[CorrelationRule],
        sinks: Sequence[Sink],
        state: State | None = None,
        listening: Mapping[str, socket.socket] | None = None,
        expectations: Expectations | None = None,
    ) -> None:
        self.settings = settings
        self.reloader = Reloader(settings, rules, self._use)
        self.deliveries = [Delivery(sink, settings.sinks.queue_size) for sink in sinks]
        self.outbox = Outbox(state, self.deliveries, anchors(rules))
        redact, remember = redactor(settings), self.outbox.remember if state else None
        self.pipeline = Pipeline(rules, time.monotonic, time.time_ns, remember, redact, expectations)
        self._state = state
        ring = Path(f"{settings.state.path}.ring") if state is not None else None
        self.pass_through = pass_through(settings, ring, sockets.inherited_memory())
        self.intake = Intake(settings, self.pipeline, self.outbox, self.pass_through)
        self._redaction = deepcopy(settings.redaction)
        self.http = HttpListener(settings.http, self.intake.take_json) if settings.http.enabled else None
        self.subscribers = next((sink for sink in sinks if isinstance(sink, Subscribers)), None)
        self._name_origin()
        if settings.canary.enabled:
            self.pipeline.canary = Canary(over_grpc=settings.grpc.enabled)
            self.health = Health(
                settings.canary,
                self.pipeline.canary,
                traffic=self._traffic,
                report=lambda report: self.intake.notify([report]),
                node=settings.node,
            )
        self._listening = listening or {}
        self.incidents = IncidentRefresh(self.pipeline, self.outbox)
        self._admin = AdminListener(
            not_ready=self._not_ready, metrics=lambda: metrics.exposition(self), pages=self._page
        )
        self._loop: asyncio.AbstractEventLoop

    @property
    def received(self) -> Counter[str]:
        """Alerts by source."""
        return self.intake.received

    @property
    def notified(self) -> Counter[str]:
        """Notifications by severity."""
        return self.intake.notified

    @property
    def folded(self) -> int:
        """Contexts that were folded under pressure, in all remembered containers."""
        return sum(container.contexts.folded for container in self.pipeline.containers)

    async def start(self) -> None:
        """Open ports and connections, and set `http_port` and `admin_port`."""
        self._loop = asyncio.get_running_loop()
        if self._state is not None:
            restore = Restore(self._state, self.pipeline, self.outbox, self.subscribers)
            restore.run()
            for problem in restore.problems:
                self._degraded(problem)
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
        self._disk = DiskThread(self._loop)
        self.outbox.use_disk(self._disk)
        self._check_state()
        self._report_state()
        self.reloader.start()
        log.info("ready", extra=self._addresses())

    def _addresses(self) -> dict[str, object]:
        """The ports, and where the incident pages are, for the log."""
        ports: dict[str, object] = {"http_port": self.http_port, "admin_port": self.admin_port}
        host = self.settings.admin.host
        host = "127.0.0.1" if host in ("", "0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104 - compared, not bound
        return {**ports, "pages": f"http://{host}:{self.admin_port}/"} if self.settings.admin.enabled else ports

    def _use(self, settings: Settings, rules: list[CorrelationRule], expected: Expectations | None) -> None:
        """Take up changed rules and expectations, and those settings that a running service can change."""
        level, redaction = self.settings.log_level, self.settings.redaction
        take_over(self.settings, settings)
        if (level, self._redaction) != (self.settings.log_level, redaction):
            self._redaction = deepcopy(redaction)
            redact = redactor(self.settings)
            self.pipeline.mask_by(redact)
            logs.setup(self.settings.log_level, redact)
        tables.extend(self.settings.programs)
        self._name_origin()
        self.outbox.anchors = anchors(rules)
        self.intake.notify(self.pipeline.use(rules, expected))

    def _name_origin(self) -> None:
        self.outbox.origin = Origin(self.settings.cluster, self.settings.url)
        if self.subscribers is not None:
            self.subscribers.origin = self.outbox.origin

    async def _start_server(self) -> None:
        if self.subscribers is None:
            return
        from sidecar.sinks.grpc.server import GrpcServer  # noqa: PLC0415 - grpcio costs memory where it is not used

        self.server = self.intake.server = GrpcServer(self.subscribers)
        try:
            await self.server.start()
        except OSError as error:
            log.error("cannot start the gRPC server", extra={"error": str(error)})  # noqa: TRY400
            self._degraded(f"cannot start the gRPC server: {error}")

    def _report_state(self) -> None:
        """Report once, also to the sinks, that state was lost or would be lost in a crash."""
        self.outbox.trouble.on_report = self._degraded
        if self._state is not None and self._state.set_aside:
            self._degraded(
                f"the state file was damaged; it was moved to {self._state.set_aside} and a new one was created"
            )
        if self._state is None and self.settings.state.path:
            self._degraded("the state file cannot be used, continuing in memory: a restart loses open incidents")

    def _check_state(self) -> None:
        self.outbox.keep_servers(*self.pipeline.servers.take_changes())
        self.outbox.check()
        if self.pass_through is not None:
            self.pass_through.protect()
        self._checking = self._loop.call_later(STATE_CHECK_SECONDS, self._check_state)

    def _degraded(self, text: str) -> None:
        self._loop.call_soon(self.intake.notify, [degraded(text, self.settings.node)])

    def _start_readers(self) -> None:
        if self.settings.grpc.enabled:
            from sidecar.sources.grpc import GrpcPoller  # noqa: PLC0415 - grpcio costs memory where it is not used

            self.grpc = GrpcPoller(self.settings.grpc, self.intake.from_thread(self._loop))
            self.grpc.start()
        if self.settings.journal.path:
            position = self._state.position(self.settings.journal.path) if self._state is not None else None
            self.journal = JournalTail(
                self.settings.journal, position, self.intake.take_journal, lambda: self.outbox.is_behind
            )
            self.journal.start()
        if self.health is not None:
            self.health.start()

    async def stop(self) -> None:
        """Stop accepting alerts, deliver what is decided, and close everything."""
        await self.reloader.stop()
        if self.health is not None:
            await self.health.stop()
        if self.http is not None:
            await self.http.stop()
        if self.grpc is not None:
            await asyncio.to_thread(self.grpc.stop)
        if self.journal is not None:
            await self.journal.stop()
        self.intake.flush()
        self.incidents.stop()
        if self._checking is not None:
            self._checking.cancel()
        await self._settled(1.0)
        stops = [delivery.stop(GRACE_SECONDS) for delivery in self.deliveries]
        stops += [self.pass_through.stop(GRACE_SECONDS)] if self.pass_through is not None else []
        await asyncio.gather(*stops)
        if self.server is not None:
            await self.server.stop()
        await self._admin.stop()
        await self._close_state()
        log.info("stopped")

    async def _close_state(self) -> None:
        await self._disk.stop()
        await asyncio.sleep(0)  # what its last job came to
        self.outbox.keep_servers(*self.pipeline.servers.take_changes())
        self.outbox.close()
        if self._state is not None:
            self._state.close()

    async def drained(self) -> None:
        """Wait until everything that was decided is delivered, and the state file says so."""
        self.intake.flush()
        await self._settled(GRACE_SECONDS)
        for delivery in self.deliveries:
            await delivery.drained()
        await self._settled(GRACE_SECONDS)

    async def _settled(self, seconds: float) -> None:
        """Wait up to `seconds` until what is decided is in the state file, and so on its way to the sinks."""
        until = self._loop.time() + seconds
        while not self.outbox.is_settled and self._loop.time() < until:  # noqa: ASYNC110 - only ever asked at an end
            await asyncio.sleep(0.005)

    def _traffic(self) -> Traffic:
        refused = sum(self.http.connections.refused.values()) if self.http is not None else 0
        return Traffic(self.pipeline.received, self.pipeline.reasons["text_mode"], refused)

    def _page(self, request: Request) -> Response | None:
        from sidecar.admin import api  # noqa: PLC0415 - pages cost memory that a service nobody looks at saves

        try:
            running = api.Service(lambda: self.reloader.in_force, lambda name: explain(self.pipeline, name))
            return api.answer(request, self.incidents.current, self.settings.admin, running)
        except Exception:  # a bug must cost one response, and be logged
            log.exception("an incident page could not be made")
            return Response("500 Internal Server Error", b"internal error; see the log\n")

    def _not_ready(self) -> str:
        if self.grpc is not None and not self.grpc.connected and self.http is None:
            return "Falco's gRPC output does not answer"
        return ""
