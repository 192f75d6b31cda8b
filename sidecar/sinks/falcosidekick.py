"""Incidents to Falcosidekick, the main sink: its answer 200 means that it has the event in memory."""

from sidecar.settings.sinks import FalcosidekickSinkSettings
from sidecar.sinks.http import HttpSink


def make_sink(settings: FalcosidekickSinkSettings) -> HttpSink:
    """The sink for `sinks.falcosidekick`."""
    return HttpSink("falcosidekick", settings)
