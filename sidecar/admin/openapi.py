"""The OpenAPI document of the JSON API. Its schemas are made of the structures themselves, so they cannot differ."""

from typing import Any, get_args

import msgspec
from msgspec import Struct

from sidecar import __version__
from sidecar.admin.reload import InForce
from sidecar.incidents import query, view
from sidecar.incidents.why import Places
from sidecar.model import Severity
from sidecar.yamlfile.typed import DURATION


class Problem(Struct, frozen=True):
    """Why a request was not answered as wanted."""

    error: str


def document() -> dict[str, Any]:
    """The document, version 3.1."""
    kinds = (view.Page, view.Incident, InForce, Places, Problem)
    (page, incident, in_force, places, problem), schemas = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}"
    )
    answers = {status: _answer(words, problem) for status, words in _PROBLEMS.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Falco Correlator",
            "version": __version__,
            "description": "Incidents with their evidence and next steps. Read only, without a login: see SECURITY.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/api/v1/incidents": _get("listIncidents", "Incidents, newest evidence first.", _PARAMETERS, page, answers),
            "/api/v1/incidents/{id}": _get("getIncident", "One incident in full.", [_ID, _PRETTY], incident, answers),
            "/api/v1/why": _get("getWhy", "Why a place has no incident.", [_PLACE], places, answers),
            "/api/v1/rules": _get("getRules", "The correlation rules in force.", [], in_force, answers),
        },
        "components": {"schemas": schemas},
    }


_PROBLEMS = {
    "400": "A parameter is unknown or wrong.",
    "403": "The caller or the Host header is not allowed.",
    "404": "There is no such incident.",
    "409": "More than one incident begins so.",
    "503": "The state file cannot be read.",
}

_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The id, or its first four characters or more if they are unique.",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{4,16}$"},
}


_PLACE = {
    "name": "place",
    "in": "query",
    "required": True,
    "description": "A pod, namespace/pod, a container's name or id, or a host.",
    "schema": {"type": "string", "minLength": 1, "maxLength": query.MAX_VALUE_CHARS},
}


def _parameter(name: str, words: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": words, "schema": schema}


_PRETTY = _parameter("pretty", "Write the JSON over several lines.", type="boolean", default=False)

_DAY = "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]"
_WHEN = rf"^({DURATION}|(19|20|21)[0-9]{{2}}-{_DAY}T{_CLOCK}:[0-5][0-9](\.[0-9]{{1,6}})?(Z|[+-]{_CLOCK}))?$"
"""How long ago, or a time; without the 29th of February, which is taken all the same in its years."""

_PARAMETERS = [
    _parameter(
        "severity",
        "One severity or more, separated by commas or repeated.",
        type="array",
        items={"type": "string", "enum": list(get_args(Severity))},
        uniqueItems=True,
    ),
    _parameter("state", "Open or closed; an incident closes by itself.", type="string", enum=list(query.STATES)),
    _parameter(
        "q",
        "Part of a place, case, id, image, command, file, address, technique, user or rule.",
        type="string",
        maxLength=query.MAX_VALUE_CHARS,
    ),
    *(
        _parameter(name, words, type="string", maxLength=query.MAX_VALUE_CHARS)
        for name, words in (
            ("namespace", "The namespace."),
            ("address", "An address, or the beginning of one, that was contacted or stands in a command."),
            ("image", "Part of the name of the image."),
            ("command", "Part of a command."),
            ("technique", "Part of the id or name of a technique or tactic of MITRE ATT&CK."),
            ("user", "Part of the name of a user that a process ran as."),
            ("rule", "Part of the name of a correlation rule or Falco rule."),
        )
    ),
    _parameter("since", "Last evidence not before this: 30m ago, 24h ago, or a time.", type="string", pattern=_WHEN),
    _parameter("until", "Last evidence before this, as for since.", type="string", pattern=_WHEN),
    _parameter("sort", "What to sort by.", type="string", enum=list(query.SORTS), default="last"),
    _parameter("order", "Ascending or descending.", type="string", enum=list(query.ORDERS), default="desc"),
    _parameter("limit", "Incidents on a page.", type="integer", minimum=1, maximum=query.MAX_LIMIT, default=50),
    _PRETTY,
    _parameter("offset", "Incidents before the page.", type="integer", minimum=0, maximum=1_000_000, default=0),
]


def _get(name: str, words: str, parameters: list[Any], schema: Any, problems: dict[str, Any]) -> dict[str, Any]:
    answers = {"200": _answer("The answer.", schema), **problems}
    return {"get": {"operationId": name, "summary": words, "parameters": parameters, "responses": answers}}


def _answer(words: str, schema: Any) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": schema}}}
