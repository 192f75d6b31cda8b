"""The command `demo`: the service on loopback, and a recorded attack sent to its HTTP port."""

import json
import time
from typing import Any

from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents.falco_event import rfc3339
from sidecar.net.http_client import Client
from sidecar.rules.loading import SHIPPED
from sidecar.rules.rule import CorrelationRule
from sidecar.service.run import stop_on_signals
from sidecar.service.service import Service
from sidecar.settings.schema import Settings
from sidecar.sinks.stdout import StdoutSink
from sidecar.storage.archive import IncidentFilter


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


async def run(settings: Settings, rules: list[CorrelationRule], *, once: bool) -> int:
    """Start the service, play the recording, print its incident; then continue to serve, or with `once` return.

    Returns:
        The number of critical incidents, which must be 1.
    """
    service = Service(settings, rules, [StdoutSink("text")])
    stop = stop_on_signals()
    await service.start()
    say(f"Listening for Falco's alerts on http://{settings.http.host}:{service.http_port}/")
    alerts = recording(time.time_ns())
    say(f"Playing {len(alerts)} alerts that Falco raised during an attack on a web application ...\n")
    await _play(alerts, f"http://{settings.http.host}:{service.http_port}/")
    await service.drained()
    say(_summary(service.pipeline))
    if not once:
        host = f"http://{settings.admin.host}:{service.admin_port}"
        say(f"\nSee it:  {host}{_critical(service)}\n")
        say(f"Still serving; point Falco's http_output at the address above. Metrics: {host}/metrics   Ctrl-C ends.")
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


def _summary(pipeline: Pipeline) -> str:
    opened = pipeline.correlator.opened
    return f"\n{pipeline.received} alerts in, {pipeline.detections} of them detections, {opened} incident."


def say(text: str) -> None:
    """Print a line on the terminal."""
    print(text, flush=True)  # noqa: T201 - the terminal is the point
