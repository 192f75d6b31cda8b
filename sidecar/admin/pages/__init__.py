"""Incident pages and the report: templates over the structures of `view`, with no script that is needed.

Everything an attacker may have written passes two gates on its way into a page: `escape.terminal`, so that nothing
invisible is left, and Jinja's autoescape. The policy allows our own style and script by their digests, nothing else.

Belongs here: templates, style and how they are rendered. Does not: what an incident is (`incidents`).
"""

import re
from base64 import b64encode
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sidecar import __version__
from sidecar.admin.pages.markdown import markdown as markdown
from sidecar.admin.pages.picture import picture
from sidecar.admin.reload import InForce
from sidecar.incidents import view
from sidecar.incidents.falco_event import rfc3339
from sidecar.incidents.query import SEVERITIES, SORTS, STATES
from sidecar.storage.archive import IncidentFilter
from sidecar.text import escape

HERE = Path(__file__).parent

SHOWN = 25
"""Moments of a timeline that are open; the others are behind a summary."""


def listing(page: view.Page, wanted: IncidentFilter, parameters: str, now: int) -> bytes:
    """The list of incidents."""
    before = _moved(parameters, max(page.offset - page.limit, 0)) if page.offset else ""
    after = _moved(parameters, page.offset + page.limit) if page.offset + page.limit < page.total else ""
    options: dict[str, Any] = {"severities": SEVERITIES, "states": STATES, "sorts": SORTS, "since": _since(parameters)}
    options["sorted_by"] = lambda name: _sorted_by(parameters, wanted, name)
    return _rendered("list.html", page=page, wanted=wanted, now=now, before=before, after=after, **options)


def detail(incident: view.Incident, now: int) -> bytes:
    """One incident."""
    return _rendered("incident.html", incident=incident, picture=picture(incident), now=now, report=False, shown=SHOWN)


def report(incident: view.Incident, now: int) -> bytes:
    """One incident as a file that needs nothing beside it."""
    shown = len(incident.timeline)
    return _rendered("incident.html", incident=incident, picture=picture(incident), now=now, report=True, shown=shown)


def rules(in_force: InForce) -> bytes:
    """The correlation rules in force, and what became of the last change."""
    return _rendered("rules.html", in_force=in_force)


def problem(status: str, why: str) -> bytes:
    """A page that says what is wrong with a request."""
    return _rendered("problem.html", status=status, why=why)


@cache
def policy() -> str:
    """The Content-Security-Policy of every page."""
    return f"{_inside()}; frame-ancestors 'none'"


def _inside() -> str:
    """The part of the policy that a file can carry in itself."""
    return (
        f"default-src 'none'; style-src {_digest('page.css')}; script-src {_digest('copy.js')}; img-src data:; "
        "form-action 'self'; base-uri 'none'"
    )


def _digest(name: str) -> str:
    return f"'sha256-{b64encode(sha256(_text(name).encode()).digest()).decode()}'"


@cache
def _text(name: str) -> str:
    return (HERE / name).read_text()


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: escape.terminal(value) if type(value) is str else value,
    )
    environment.globals.update(
        css=Markup(_text("page.css")),  # noqa: S704 - our own file
        script=Markup(_text("copy.js")),  # noqa: S704 - our own file
        policy=_inside(),
        version=__version__,
    )
    environment.filters.update(ago=ago, day=day, clock=clock, after=after, stamp=stamp, mitre=mitre)
    return environment


def _rendered(name: str, **values: Any) -> bytes:
    return _templates().get_template(name).render(values).encode("utf-8", "replace")


def _moved(parameters: str, offset: int) -> str:
    pairs = [(name, value) for name, value in parse_qsl(parameters) if name != "offset"]
    return "?" + urlencode([*pairs, ("offset", str(offset))])


def _sorted_by(parameters: str, wanted: IncidentFilter, name: str) -> str:
    """The same list in the order of a column; the other way round if it is in that order."""
    pairs = [(key, value) for key, value in parse_qsl(parameters) if key not in ("sort", "order", "offset")]
    turned = wanted.sort == name and not wanted.ascending
    return "?" + urlencode([*pairs, ("sort", name), *([("order", "asc")] if turned else [])])


def _since(parameters: str) -> str:
    return dict(parse_qsl(parameters)).get("since", "")


def _at(time: str) -> datetime:
    return datetime.strptime(time[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)


def day(time: str) -> str:
    """`24 Nov 2026, 05:18:24 UTC`."""
    return f"{_at(time):%-d %b %Y, %H:%M:%S} UTC"


def mitre(tag: str) -> str:
    """The page of MITRE ATT&CK on a technique, "" for a tag that is none: `T1059.004`."""
    found = re.fullmatch(r"T(\d{4})(?:\.(\d{3}))?", tag)
    return f"https://attack.mitre.org/techniques/T{found[1]}/{f'{found[2]}/' if found[2] else ''}" if found else ""


def stamp(now: int) -> str:
    """Nanoseconds since 1970 as a day and time."""
    return day(rfc3339(now))


def clock(time: str) -> str:
    """`05:18:24.263`."""
    return time[11:23]


def ago(time: str, now: int) -> str:
    """`3 min ago`."""
    seconds = max(now // 1_000_000_000 - int(_at(time).timestamp()), 0)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size * (2 if unit == "d" else 1):
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def after(seconds: float) -> str:
    """`+0.040 s`, `+3 min 5 s`."""
    if seconds < 60:
        return f"+{seconds:.3f} s" if seconds < 10 else f"+{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"+{minutes} min {rest} s" if minutes < 60 else f"+{minutes // 60} h {minutes % 60} min"
