"""Notifications for tests of what comes after the correlator: any incident, any step."""

from functools import cache

from msgspec.structs import replace
from support.rules import RULES, WEB_RCE

from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.model import Notification, Severity
from sidecar.rules.spec import AlertSpec
from sidecar.yamlfile.typed import Duration


@cache
def _template() -> Notification:
    story = [
        AlertSpec(process="nginx > sh", detect=["web_shell"]),
        AlertSpec(process="nginx > sh > curl", detect=["network"], at=Duration.parse("1s")),
    ]
    pipeline = Pipeline(RULES, lambda: 0.0)
    due = [message for body in alerts(WEB_RCE, story) for message in pipeline.process_json(body)[1]]
    (note,) = [message for message in [*due, *pipeline.flush()] if isinstance(message, Notification)]
    return note


def note(incident: str, severity: Severity = "medium", container: str = "c1", pod: str = "shop-1") -> Notification:
    """One step of an incident."""
    made = _template()
    where = made.where._replace(container=container, container_name=container, pod=pod)
    return replace(made, incident=incident, severity=severity, where=where)
