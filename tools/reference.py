"""Generates the reference pages of the documentation from the code: `python -m reference` writes them all.

Each page is a function; a test compares its result with the file, so that no page can be out of date.
"""

import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import Struct
from support.switched_on import switched_on

from sidecar.cli.main import EPILOG, main
from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents import falco_event
from sidecar.meaning.declined import REASONS
from sidecar.model import ANOMALIES, REJECTIONS, Notification, Report, Where
from sidecar.rules.loading import SHIPPED, load
from sidecar.service import metrics
from sidecar.service.service import Service
from sidecar.settings import schema
from sidecar.settings.sinks import Sinks
from sidecar.settings.sources import JournalSourceSettings
from sidecar.sinks.factory import make_sinks
from sidecar.sources.grpc import GrpcPoller
from sidecar.sources.journal import JournalTail

FOLDER = Path(__file__).parent.parent / "docs" / "reference"

MADE = "\n<!-- Made by `make docs` from the code. Edit it there. -->\n"

FIELDS = {
    "incident.id": "The incident, the same over all its steps.",
    "incident.severity": "`critical`, `high`, `medium` or `low`.",
    "incident.from": "The severity of the step before; absent at the first.",
    "incident.url": "Address of its page (setting `url`).",
    "incident.cluster": "The cluster (setting `cluster`).",
    "incident.case": "The row of the case table that holds; the same as `rule`.",
    "incident.rule": "The id of the correlation rule.",
    "incident.step": "Counts the notifications of the incident from 1.",
    "incident.summary": "What happened, in one sentence of facts, and whether Falco dropped events.",
    "incident.groups": "The activity groups that were seen, by comma.",
    "incident.timeline": "What happened, oldest first: seconds after the first, groups, processes from the service down, command.",
    "incident.indicators": "Addresses, credentials and files that it is about: what to look for elsewhere.",
    "incident.next": "The first next steps with their commands; the page has all.",
    "container.id": "The container, `host` for the node itself.",
    "container.name": "Its name.",
    "k8s.ns.name": "The Kubernetes namespace.",
    "k8s.pod.name": "The pod.",
    "proc.vpid": "Of the process that decided the step: its pid inside the container.",
}
"""What the fields of an incident mean. A field that has no line here fails the test."""


def settings_page() -> str:
    """Every setting with its default and meaning."""
    lines = [
        "# Settings",
        MADE,
        "One YAML file holds them (`falco-correlator run --config FILE`). Each is also an environment variable, which wins:",
        "`sinks.falcosidekick.url` is `FALCO_CORRELATOR_SINKS__FALCOSIDEKICK__URL`. `falco-correlator run --print-config`",
        "prints those in effect, `falco-correlator schema settings` a JSON Schema for editors. A setting that does not exist, or",
        "contradicts another, stops the start with exit code 2, its path and what to write instead.",
        "",
    ]
    return "\n".join([*lines, *_section(schema.Settings, "")])


def _section(kind: type[Struct], path: str) -> Iterator[str]:
    texts = _field_texts(kind)
    fields = msgspec.structs.fields(kind)
    values = [each for each in fields if not _is_section(each.type)]
    if path:
        yield f"## {path}\n"
        yield f"{inspect.getdoc(kind)}\n"
    if values:
        yield "| setting | default | meaning |"
        yield "| --- | --- | --- |"
        for each in values:
            name = f"{path}.{each.name}" if path else each.name
            yield f"| `{name}` | {_default(each)} | {_cell(texts.get(each.name, ''))} |"
        yield ""
    for each in fields:
        if _is_section(each.type):
            yield from _section(each.type, f"{path}.{each.name}" if path else each.name)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _default(field: Any) -> str:
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if value in ("", [], {}):
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _field_texts(kind: type[Struct]) -> dict[str, str]:
    """The docstring under each field, which Python itself does not keep."""
    (node,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(node, ast.ClassDef)
    texts = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            texts[field.target.id] = str(text.value.value)  # type: ignore[attr-defined]
    return texts


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def metrics_page() -> str:
    """Every metric of a service with everything turned on."""
    lines = [
        "# Metrics",
        MADE,
        "On `/metrics` of the administration port (`admin.port`, 2812), in Prometheus' text format. Every label value comes from",
        "a fixed set: nothing that an attacker writes makes a new series. Metrics of what is not turned on are absent.",
        "",
        "| metric | type | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    service = _whole_service()
    for metric in metrics.metrics(service):
        suffix = "_total" if metric.kind == "counter" else ""
        labels = "; ".join(
            _label(label, [pair[at] for pair in metric.values]) for at, label in enumerate(metric.labels)
        )
        lines.append(f"| `{metrics.PREFIX}{metric.name}{suffix}` | {metric.kind} | {labels} | {_cell(metric.help)} |")
    declined = _reasons("detections_declined", {reason: why.meaning for reason, why in REASONS.items()})
    return "\n".join(
        [*lines, *_reasons("alerts_rejected", REJECTIONS), *_reasons("alerts_anomalous", ANOMALIES), *declined, ""]
    )


def _reasons(metric: str, reasons: dict[str, str]) -> list[str]:
    rows = [f"| `{reason}` | {text} |" for reason, text in reasons.items()]
    return ["", f"## Reasons of `{metric}`", "", "| reason | meaning |", "| --- | --- |", *rows]


def _label(label: str, values: list[str]) -> str:
    shown = list(dict.fromkeys(values))
    if label in ("version", "reason") and len(shown) != 3:
        return f"`{label}`"
    return f"`{label}`: {', '.join(shown)}" if shown else f"`{label}`"


def _whole_service() -> Service:
    sinks = Sinks()
    for name, sink in sinks.sections():
        setattr(sinks, name, switched_on(type(sink)))
    wanted = schema.Settings(sinks=sinks, canary=schema.CanarySettings(enabled=True))
    service = Service(wanted, load([SHIPPED / "correlation"]), make_sinks(wanted.sinks))
    service.received.update(http=0, grpc=0, journal=0)
    service.grpc = GrpcPoller(wanted.grpc, lambda _: None)
    service.journal = JournalTail(JournalSourceSettings(path="events.jsonl"), None, lambda *_: None)
    return service


def incident_page() -> str:
    """Every field of an incident, and what a report has."""
    note = a_note()
    names = [name for name, _, _ in falco_event._fields(note, falco_event.Origin())]
    event = falco_event.to_event(note)
    report = falco_event.to_event(
        Report("Correlator degraded", "high", "text", Where("h", "", "", "", "n", "p"), note.last)
    )
    own = [name for name in report["output_fields"] if name.startswith("correlator.")]
    return "\n".join(
        [
            "# Incident fields",
            MADE,
            "An incident goes to every sink as a Falco event, so whatever understands Falco understands it. `rule` is the case,",
            "`priority` Critical, Error, Warning or Notice for critical, high, medium or low, `source` is `syscall`, `time` that",
            "of the newest detection, `hostname` the node; `output` begins like Falco's, then says what happened, and ends with id,",
            f"severity and address of the page. `output_fields` holds at most {falco_event.MAX_FIELDS} texts, and the whole event at most",
            f"{falco_event.MAX_EVENT_BYTES} bytes, so no output behind Falcosidekick cuts or refuses it; a field without a value is absent.",
            "No name is the beginning of another one (Elasticsearch), and names hold letters, digits and dots only (Falco Talon).",
            "HTTP sinks get `Idempotency-Key: INCIDENT:SEVERITY:SINK` with it.",
            "",
            f"Tags: {', '.join(f'`{tag}`' for tag in event['tags'] if tag.startswith('webrce'))}, the correlation rule's MITRE",
            "tags and those of the detection that decided the step, and `container` or `host`.",
            "",
            "| field | meaning |",
            "| --- | --- |",
            *(f"| `{name}` | {FIELDS[name]} |" for name in names),
            "",
            "## Reports",
            "",
            "What the service has to say of itself (`Correlator degraded`, `Correlator under pressure`) goes to the sinks too, with",
            f"the tag `correlator_report` and {' and '.join(f'`{name}`' for name in own)}.",
            "",
        ]
    )


def a_note() -> Notification:
    """The strongest notification of the recorded attack that travels with the package."""
    pipeline = Pipeline(load([SHIPPED / "correlation"]), lambda: 0.0)
    lines = (SHIPPED / "recordings" / "demo.jsonl").read_bytes().splitlines()
    due = [each for body in lines for each in pipeline.process_json(body)[1]] + pipeline.flush()
    return [each for each in due if isinstance(each, Notification)][-1]


def commands_page() -> str:
    """The help of every command."""
    context = click.Context(main, info_name="falco-correlator", **main.context_settings)
    helps = [f"## {name}\n\n```text\n{text}\n```\n" for name, text in _helps(main, context)]
    exits = EPILOG.removeprefix("Exit codes: ")
    return "\n".join(["# Commands and exit codes", MADE, f"Exit codes: {exits}", "", *helps])


def _helps(group: click.Group, context: click.Context, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name and help of every command of a group, and of the commands below it."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, parent=context, info_name=name, max_content_width=88, terminal_width=88)
        text = command.get_help(inner).partition("\n  Exit codes:")[0].rstrip()
        yield prefix + name, "\n".join(line.rstrip() for line in text.splitlines())
        if isinstance(command, click.Group):
            yield from _helps(command, inner, f"{prefix}{name} ")


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "incident.md": incident_page,
    "commands.md": commands_page,
}

if __name__ == "__main__":
    for page, render in PAGES.items():
        (FOLDER / page).write_text(render())
