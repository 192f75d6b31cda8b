"""Incident pages and the report: templates over the structures of `view`, with no script that is needed.

Everything an attacker may have written passes two gates on its way into a page: `escape.terminal`, so that nothing
invisible is left, and Jinja's autoescape. The policy allows our own style and script by their digests, nothing else.

Belongs here: templates, style and how they are rendered. Does not: what an incident is (`incidents`).
"""

from base64 import b64encode
from collections.abc import Callable
from datetime import tzinfo
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from sidecar import __version__
from sidecar.admin.pages import times
from sidecar.admin.pages.markdown import markdown as markdown
from sidecar.admin.pages.picture import histogram_bars, picture
from sidecar.admin.pages.request import REFRESH_SECONDS, View
from sidecar.admin.reload import InForce
from sidecar.incidents import view
from sidecar.incidents.falco_event import rfc3339
from sidecar.incidents.query import SEVERITIES, STATES, TERMS
from sidecar.storage.archive import IncidentFilter
from sidecar.text import escape, mitre

HERE = Path(__file__).parent

SHOWN = 25
"""Moments of a timeline that are open; the others are behind a summary."""


SINCE = (("1h", "Last hour"), ("24h", "Last day"), ("7d", "Last week"))
"""Choices of the list; a link may ask for any other."""


def listing(page: view.Page, wanted: IncidentFilter, now: int, seen: View) -> bytes:
    """The list of incidents."""
    after = page.offset + page.limit
    since = dict(seen.fields).get("since", "")
    chosen = [(since, f"Since {since}")] if since and since not in dict(SINCE) else []
    return _rendered(
        "list.html",
        seen,
        page=page,
        wanted=wanted,
        now=now,
        before=seen.link(offset=max(page.offset - page.limit, 0)) if page.offset else "",
        after=seen.link(offset=after) if after < page.total else "",
        severities=SEVERITIES,
        states=STATES,
        since=since,
        sinces=[*SINCE, *chosen],
        filters=[(name, value) for name, value in seen.fields if name in (*TERMS, "until")],
        sorted_by=lambda name: _sorted_by(seen, wanted, name),
        bars=histogram_bars(page.histogram),
    )


def detail(incident: view.Incident, now: int, seen: View = View()) -> bytes:  # noqa: B008 - immutable
    """One incident."""
    return _incident(incident, now, seen, report=False, shown=SHOWN)


def report(incident: view.Incident, now: int, seen: View = View()) -> bytes:  # noqa: B008 - immutable
    """One incident as a file that needs nothing beside it."""
    return _incident(incident, now, seen, report=True, shown=len(incident.timeline))


def _incident(incident: view.Incident, now: int, seen: View, *, report: bool, shown: int) -> bytes:
    alerts: dict[int, list[view.KeptAlert]] = {}
    for alert in incident.alerts:
        alerts.setdefault(alert.moment, []).append(alert)
    values = {"incident": incident, "now": now, "report": report, "shown": shown, "alerts": alerts}
    values["techniques"] = [(tag, mitre.url(tag), mitre.name(tag)) for tag in _techniques(incident.tags)]
    return _rendered("incident.html", seen, picture=picture(incident), **values)


def _techniques(tags: list[str]) -> list[str]:
    """Tactics, then techniques."""
    known = [tag for tag in tags if mitre.url(tag) or mitre.name(tag)]
    return sorted(known, key=lambda tag: (bool(mitre.url(tag)), tag))


def rules(in_force: InForce, seen: View = View()) -> bytes:  # noqa: B008 - immutable
    """The correlation rules in force, and what became of the last change."""
    return _rendered("rules.html", seen, in_force=in_force)


def problem(status: str, why: str, seen: View = View()) -> bytes:  # noqa: B008 - immutable
    """A page that says what is wrong with a request."""
    return _rendered("problem.html", seen, status=status, why=why)


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
    environment.filters.update(ago=times.ago, after=times.after, lasting=times.lasting, stamp=_stamp)
    environment.filters.update(
        day=_in_zone(times.day), short_day=_in_zone(times.short_day), clock=_in_zone(times.clock)
    )
    return environment


def _rendered(name: str, seen: View, **values: Any) -> bytes:
    values |= {"seen": seen, "refreshes": REFRESH_SECONDS, "knows_names": times.zone("Europe/Berlin") is not None}
    return _templates().get_template(name).render(values).encode("utf-8", "replace")


def _in_zone(shown: Callable[[str, tzinfo], str]) -> Callable[[Context, str], str]:
    """A filter that shows a time in the zone of the page."""

    @pass_context
    def in_zone(context: Context, time: str) -> str:
        return shown(time, context["seen"].zone)

    return in_zone


@pass_context
def _stamp(context: Context, now: int) -> str:
    """Nanoseconds since 1970 as a day and time."""
    return times.day(rfc3339(now), context["seen"].zone)


def _sorted_by(seen: View, wanted: IncidentFilter, name: str) -> str:
    """The same list in the order of a column; the other way round if it is in that order."""
    turned = {"order": "asc"} if wanted.sort == name and not wanted.ascending else {}
    return seen.link("order", "offset", sort=name, **turned)
