"""Makes the sinks that are configured. A sink's module, named like its settings, is imported only then."""

import importlib

from sidecar.settings.sinks import Sinks
from sidecar.sinks import Sink


def make_sinks(settings: Sinks) -> list[Sink]:
    """Each configured sink, by the `make_sink` of its module."""
    return [
        importlib.import_module(f"sidecar.sinks.{name}").make_sink(sink) for name, sink in settings.configured().items()
    ]
