"""Incidents to Falcosidekick, the main sink: its answer 200 means that it has the event in memory."""

from sidecar.settings.schema import FalcosidekickSink
from sidecar.sinks.http import HttpSink


def falcosidekick(settings: FalcosidekickSink) -> HttpSink:
    """The sink for `sinks.falcosidekick`."""
    return HttpSink("falcosidekick", settings.url, timeout=settings.timeout.seconds)
