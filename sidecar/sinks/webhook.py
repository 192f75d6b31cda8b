"""Incidents to any HTTP endpoint, with headers of the operator's choice (a token, say)."""

from sidecar.settings.sinks import WebhookSinkSettings
from sidecar.sinks.http import HttpSink


def make_sink(settings: WebhookSinkSettings) -> HttpSink:
    """The sink for `sinks.webhook`."""
    return HttpSink("webhook", settings, settings.headers)
