"""Incidents to Falcosidekick, the main sink: its answer 200 means that it has the event in memory."""

from sidecar.settings.sinks import FalcosidekickSink
from sidecar.sinks.http import HttpSink


def make_sink(settings: FalcosidekickSink) -> HttpSink:
    """The sink for `sinks.falcosidekick`."""
    return HttpSink("falcosidekick", settings.url, timeout=settings.timeout.seconds)
