"""The command `demo`: the service on loopback, and a recorded attack sent to its HTTP port."""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from rich.text import Text

from sidecar.incidents import terminal, view
from sidecar.incidents.falco_event import rfc3339
from sidecar.model import Notification, Outgoing
from sidecar.net.http_client import Client
from sidecar.rules.loading import SHIPPED
from sidecar.rules.rule import CorrelationRule
from sidecar.service.run import stop_on_signals
from sidecar.service.service import Service
from sidecar.settings.schema import Settings
from sidecar.storage.archive import IncidentFilter
from sidecar.text import escape


def recording(now: int) -> list[bytes]:
    """The alerts that Falco sent during the attack, in order, with times as if the last one was raised `now` (ns)."""
    alerts = [json.loads(line) for line in (SHIPPED / "recordings" / "demo.jsonl").read_bytes().splitlines()]
    delay = now - alerts[-1]["output_fields"]["evt.time"]
    return [_shifted(alert, delay) for alert in alerts]


def _shifted(alert: dict[str, Any], delay: int) -> bytes:
    fields = alert["output_fields"]
    for name, value in fields.items():
        if value and (name == "evt.time" or name.endswith(("_ts", ".ts"))):
            fields[name] = value + delay
    return json.dumps({**alert, "time": rfc3339(fields["evt.time"])}).encode()


class Collector:
    """A sink that keeps the notifications, so that they are printed when the attack is over."""

    name = "demo"

    def __init__(self) -> None:
        self.notifications: list[Notification] = []

    async def send(self, out: Outgoing) -> None:
        """Keep a notification."""
        if isinstance(out.message, Notification):
            self.notifications.append(out.message)

    def close(self) -> None:
        """Nothing is open."""


async def run(settings: Settings, rules: list[CorrelationRule], *, once: bool) -> int:
    """Start the service, play the recording, print its incident; then continue to serve, or with `once` return.

    Returns:
        The number of critical incidents, which must be 1.
    """
    collector = Collector()
    service = Service(settings, rules, [collector])
    stop = stop_on_signals()
    await service.start()
    listening = f"http://{settings.http.host}:{service.http_port}/"
    alerts = recording(time.time_ns())
    await _play(alerts, listening)
    await service.drained()
    _show(collector.notifications, alerts)
    if not once:
        pages = f"http://{settings.admin.host}:{service.admin_port}"
        say(f"\nSee it:  {pages}{_critical(service)}")
        say(f"Ctrl-C stops. Until then Falco's http_output may send to {listening}")
        await stop.wait()
    await service.stop()
    return service.notified["critical"]


def _critical(service: Service) -> str:
    """The path of the worst incident's page."""
    rows, _ = service.incidents.current().listed(IncidentFilter(sort="severity", limit=1), time.time_ns())
    return f"/incidents/{rows[0].id}" if rows else "/"


async def _play(alerts: list[bytes], url: str) -> None:
    client = Client(url, timeout=10)
    for body in alerts:
        await client.post(body)
    client.close()


def _show(notifications: list[Notification], alerts: list[bytes]) -> None:
    """Print what was played, how the incident rose, its evidence, and how much stayed silent."""
    attacked = {note.where.container for note in notifications}
    containers = [json.loads(alert)["output_fields"]["container.id"] for alert in alerts]
    silent = [container for container in containers if container not in attacked]
    screen = terminal.console(sys.stdout)
    screen.print(f"Played {len(alerts)} alerts of {len(set(containers))} containers.\n")
    for note in notifications:
        screen.print(terminal.headline(view.from_notification(note)))
    if notifications:
        last = view.from_notification(notifications[-1])
        screen.print(f"\n{last.summary}\n")
        screen.print(*_evidence(last, screen.width), sep="\n")
    incidents = len({note.incident for note in notifications})
    screen.print(
        f"\n{incidents} incident of {len(alerts) - len(silent)} alerts. The other {len(silent)}, from "
        f"{len(set(silent))} containers where they are normal (mail, a cron job, kubectl exec, an SDK), stayed silent."
    )


def _evidence(incident: view.Incident, width: int) -> Iterator[Text]:
    """One line for each moment; what is longer than the terminal is cut."""
    moments = [
        (f"+{event.after:.3f} s", ", ".join(event.groups), event.path[-1].name, event.detail or event.command)
        for event in incident.timeline
    ]
    widths = [max(map(len, column)) for column in zip(*moments, strict=True)][:-1]
    for *beginning, what in moments:
        words = [word.ljust(size) for word, size in zip(beginning, widths, strict=True)]
        line = Text(escape.terminal("  ".join([*words, what])), no_wrap=True)
        line.truncate(width, overflow="ellipsis")
        yield line


def say(text: str) -> None:
    """Print a line on the terminal."""
    print(text, flush=True)  # noqa: T201 - the terminal is the point
