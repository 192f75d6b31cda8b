"""Pages and the JSON API on the administration port. Access is decided first, because there is no login.

`answer` maps the paths; the page and the JSON of an incident show the same structure (`view`).
"""

import json
import re
import sqlite3
import time
from collections.abc import Callable
from functools import cache
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import parse_qsl

import msgspec

from sidecar.admin import openapi, pages
from sidecar.admin.pages.request import View
from sidecar.admin.pages.request import view as seen_by
from sidecar.admin.pages.times import to_cookie
from sidecar.admin.reload import InForce
from sidecar.incidents import lookup, query, view
from sidecar.incidents.why import Places
from sidecar.net.http_server import Request, Response
from sidecar.settings.schema import Admin
from sidecar.storage.archive import Archive
from sidecar.text import escape

_PATH = re.compile(r"/|/incidents/?|(?P<api>/api/v1)/(?:incidents|(?P<document>openapi\.json))")
_WHY = re.compile(r"(?P<api>/api/v1)/why")
_RULES = re.compile(r"(?P<api>/api/v1)?/rules")
_ONE = re.compile(r"(?P<api>/api/v1)?/incidents/(?P<id>[0-9a-f]{4,16})(?:/report\.(?P<report>html|md))?")

HEADERS = (
    "Cache-Control: no-store\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "X-Frame-Options: DENY\r\n"
)

JSON, HTML = "application/json", "text/html; charset=utf-8"
MARKDOWN = "text/markdown; charset=utf-8"


class Service(NamedTuple):
    """What is asked of the running service: what is in force, and why a place has no incident."""

    in_force: Callable[[], InForce]
    why: Callable[[str], Places]


def answer(request: Request, current: Callable[[str], Archive], admin: Admin, service: Service) -> Response | None:
    """The answer to a GET; None for a path that is not ours. `current` gives the archive, fresh for an id prefix."""
    path, _, parameters = request.path.partition("?")
    found = next((match for pattern in (_PATH, _ONE, _RULES, _WHY) if (match := pattern.fullmatch(path))), None)
    if admin.pages == "nobody" or (found is None and not path.startswith(("/incidents/", "/api/"))):
        return None
    as_json = path.startswith("/api/")
    seen = View() if as_json else seen_by(request)
    parameters = parameters if as_json else seen.query
    refusal = unwelcome(request, admin)
    if refusal or found is None:
        status = "403 Forbidden" if refusal else "404 Not Found"
        return _problem(status, refusal or f"there is nothing at {path[:80]}", as_json=as_json, seen=seen)
    try:
        if found.re in (_RULES, _WHY):
            return _of_service(found, parameters, service, seen)
        return _of_incidents(found, parameters, current, admin, seen)
    except query.QueryError as error:
        return _problem("400 Bad Request", str(error), as_json=as_json, seen=seen)
    except sqlite3.Error as error:
        return _problem(
            "503 Service Unavailable", f"the state file cannot be read: {error}", as_json=as_json, seen=seen
        )


def _of_service(found: re.Match[str], parameters: str, service: Service, seen: View) -> Response:
    if found.re is _WHY:
        return _why(parameters, service.why)
    in_force = service.in_force()
    return _json("200 OK", in_force) if found["api"] else _page("200 OK", pages.rules(in_force, seen), seen.headers)


def _of_incidents(
    found: re.Match[str], parameters: str, current: Callable[[str], Archive], admin: Admin, seen: View
) -> Response:
    if seen.chose_zone:
        return _moved(seen.link(), to_cookie(seen.zone_name))
    if found.re is _ONE:
        return _one(found, current(found["id"]), admin, seen, pretty=query.is_pretty(parameters))
    if found["document"]:
        return _document()
    return _list(parameters, current(""), None if found["api"] else seen)


def unwelcome(request: Request, admin: Admin) -> str:
    """Why this request is not answered, "" if it is: who asks, and under which name.

    A browser can be made to send requests here by any page that it shows, under a name that the page's owner controls.
    """
    if admin.pages == "loopback" and not request.local:
        return "incidents are shown on loopback only: use kubectl port-forward, or set admin.pages"
    name = request.host.rpartition(":")[0] if re.search(r":\d+$", request.host) else request.host
    if name.lower() in ("localhost", admin.host.lower(), *map(str.lower, admin.allowed_hosts)) or _is_address(name):
        return ""
    return "unknown Host header; use an IP address or localhost, or add the name to admin.allowed_hosts"


def _is_address(name: str) -> bool:
    try:
        return bool(ip_address(name.strip("[]")))
    except ValueError:
        return False


def _why(parameters: str, explain: Callable[[str], Places]) -> Response:
    given = parse_qsl(parameters)
    if [name for name, _ in given] != ["place"]:
        raise query.QueryError("expected place=NAME: a pod, namespace/pod, a container's name or id, or a host")
    found = explain(given[0][1])
    if not found.places:
        return _problem("404 Not Found", f"nothing is remembered of {given[0][1]!r}", as_json=True)
    return _json("200 OK", found)


def _list(parameters: str, archive: Archive, seen: View | None) -> Response:
    """The list as a page for a reader, or as JSON. An address without the empty fields of a form is nicer to share."""
    if seen is not None and (blanks := [name for name, value in parse_qsl(parameters, True) if not value]):
        return _moved(seen.link(*blanks))
    now = time.time_ns()
    wanted = query.parse(parameters, now)
    page = lookup.page(archive, wanted, now)
    if seen is None:
        return _json("200 OK", page, pretty=query.is_pretty(parameters))
    return _page("200 OK", pages.listing(page, wanted, now, seen), seen.headers)


def _one(url: re.Match[str], archive: Archive, admin: Admin, seen: View, *, pretty: bool) -> Response:
    as_json = bool(url["api"])
    now = time.time_ns()
    try:
        incident = lookup.incident(archive, url["id"], now, admin.links)
    except lookup.NotFoundError as error:
        return _problem("404 Not Found", str(error), as_json=as_json, seen=seen)
    except lookup.AmbiguousError as error:
        return _problem("409 Conflict", str(error), as_json=as_json, seen=seen)
    if as_json:
        return _json("200 OK", incident, pretty=pretty)
    attached = f'Content-Disposition: attachment; filename="incident-{incident.id}.{url["report"]}"\r\n'
    if url["report"] == "md":
        return Response("200 OK", pages.markdown(incident).encode("utf-8", "replace"), MARKDOWN, HEADERS + attached)
    if url["report"]:
        return _page("200 OK", pages.report(incident, now, seen), attached)
    return _page("200 OK", pages.detail(incident, now, seen), seen.headers)


@cache
def _document() -> Response:
    return Response("200 OK", json.dumps(openapi.document(), indent=2).encode(), JSON, HEADERS)


def _problem(status: str, why: str, *, as_json: bool, seen: View = View()) -> Response:  # noqa: B008 - immutable
    if as_json:
        return _json(status, openapi.Problem(why))
    return _page(status, pages.problem(status, why, seen))


def _json(
    status: str, value: view.Page | view.Incident | InForce | Places | openapi.Problem, *, pretty: bool = False
) -> Response:
    # ASCII, so that no text of an attacker steers the terminal of somebody who uses curl
    return Response(
        status,
        escape.ascii_json(msgspec.to_builtins(value), indent=2 if pretty else None).encode() + b"\n",
        JSON,
        HEADERS,
    )


def _moved(path: str, more: str = "") -> Response:
    return Response("303 See Other", headers=f"{HEADERS}Location: {path}\r\n{more}")


def _page(status: str, body: bytes, more: str = "") -> Response:
    policy = f"Content-Security-Policy: {pages.policy()}\r\n"
    return Response(status, body, HTML, HEADERS + policy + more)
