"""An incident as Markdown, for a ticket or a chat. Nothing of what an attacker wrote can act as Markdown there."""

import re
from collections.abc import Iterator

from sidecar.incidents import view
from sidecar.text import escape

_ACTS = re.compile(r"([\\`*_{}\[\]()#+!|<>~&@:-])")


def markdown(incident: view.Incident) -> str:
    """The report: what happened, where, timeline, what was touched, next steps."""
    return "\n".join(_lines(incident)) + "\n"


def _lines(incident: view.Incident) -> Iterator[str]:
    place = incident.place
    yield f"# {incident.severity.capitalize()}: {_plain(incident.case)}"
    yield ""
    if incident.summary:
        yield from (_plain(incident.summary), "")
    facts = (
        ("Where", place.words),
        ("Host", place.host),
        ("Image", place.image),
        ("First evidence", incident.first),
        ("Last evidence", incident.last),
        ("State", incident.state),
        ("Incident", incident.id),
        ("Tags", ", ".join(incident.tags)),
    )
    yield from (f"- {words}: {_plain(value)}" for words, value in facts if value)
    yield from ("", "## Timeline", "")
    for event in incident.timeline:
        groups = ", ".join(event.groups).replace("_", " ")
        path = " > ".join(process.name or str(process.pid) for process in event.path)
        yield f"{event.number}. `+{event.after:.3f} s` {_plain(groups)}, {_plain(path)}"
        yield from _code(f"{event.command}  [{event.detail}]" if event.detail else event.command)
    yield from ("", "## Touched", "")
    touched = incident.touched
    for words, values in (
        ("Credentials", touched.credentials),
        ("Connections", touched.connections),
        ("Addresses in commands", touched.named),
        ("Files", touched.files),
    ):
        yield from (f"- {words}: {_plain(value)}" for value in values)
    yield from ("", "## Next steps", "")
    for step in incident.triage:
        yield f"{step.number}. {_plain(step.do)}"
        if step.command:
            yield from _code(step.command)


def _code(text: str) -> Iterator[str]:
    """A block of code, inside the item of a list, fenced by more backticks than it has."""
    shown = escape.terminal(text)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    yield from ("", f"    {fence}text", f"    {shown}", f"    {fence}", "")


def _plain(text: str) -> str:
    return _ACTS.sub(r"\\\1", escape.terminal(text))
