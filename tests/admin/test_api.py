"""Pages and API on the administration port of a running service: who is answered, with what, and how fast.

Covers: `admin.openapi`.
"""

import asyncio
import http.client
import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jsonschema
import msgspec
import pytest
from conftest import Running, Serving, spec
from msgspec.structs import replace
from support.injections import INJECTIONS
from support.waiting import wait_until

from sidecar.admin import api, openapi
from sidecar.cli.testing.stories import alerts
from sidecar.incidents import view
from sidecar.model import Notification
from sidecar.net.http_server import Request
from sidecar.rules.rule import CorrelationRule
from sidecar.settings.schema import Admin
from sidecar.storage.archive import Archive, IncidentFilter

T = TypeVar("T")

STDOUT = {"sinks": {"stdout": {"enabled": True}}}
SHELL = spec("tini > nginx > sh", "web_shell")
CURL = spec("tini > nginx > sh > curl", "network", at="1s")
CAT = spec("tini > nginx > sh > cat", "credential", at="2s")
CAT_AGAIN = spec("tini > nginx > sh > cat#2", "credential", at="3s")


@pytest.fixture
def service(serving: Serving, rule: CorrelationRule) -> Iterator[Running]:
    with serving(STDOUT) as running:
        for body in alerts(rule, [SHELL, CURL, CAT]):
            running.post(body)
        settled(running, 2)
        yield running


def settled(running: Running, steps: int) -> None:
    wait_until(lambda: sum(running.service.notified.values()) >= steps)


def within(running: Running, use: Callable[[Archive], T]) -> T:
    """Use the archive of a running service, in its thread."""

    async def used() -> T:
        return use(running.service.outbox.archive)

    return asyncio.run_coroutine_threadsafe(used(), running._loop).result(120)


def asked(running: Running, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", running.service.admin_port, timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    response = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
    connection.close()
    return response


def fetched(running: Running, path: str) -> Any:
    return json.loads(asked(running, path)[2])


@pytest.mark.slow
def test_what_was_sent_is_on_the_page_and_in_the_api(service: Running) -> None:
    (row,) = fetched(service, "/api/v1/incidents")["incidents"]
    incident = fetched(service, f"/api/v1/incidents/{row['id']}")

    assert (row["severity"], row["state"]) == (incident["severity"], incident["state"])
    assert [step["severity"] for step in incident["steps"]] == ["medium", "critical"]
    assert row["id"] in asked(service, "/")[2]
    assert "Full Web Application Compromise" in asked(service, f"/incidents/{row['id']}")[2]


@pytest.mark.slow
def test_evidence_that_is_told_to_no_sink_is_on_the_page(service: Running, rule: CorrelationRule) -> None:
    for body in alerts(rule, [CAT_AGAIN]):
        service.post(body)
    (row,) = fetched(service, "/api/v1/incidents")["incidents"]

    assert row["detections"] == 4
    assert len(fetched(service, f"/api/v1/incidents/{row['id']}")["timeline"]) == 4
    assert len(row["steps"]) == 2


@pytest.mark.slow
def test_dropped_events_are_told_on_the_page(service: Running) -> None:
    drop = {
        "rule": "Falco internal: syscall event drop",
        "source": "internal",
        "hostname": "node-1",
        "priority": "Debug",
    }
    time_of = {"time": "2026-11-24T03:03:09Z", "output": "drop", "output_fields": {"n_drops": 1}}
    later = time.time_ns() + 10**12
    within(service, lambda archive: archive._db.execute("UPDATE incidents SET closes = ?", (later,)))
    service.post(json.dumps({**drop, **time_of}).encode())

    assert fetched(service, "/api/v1/incidents")["incidents"][0]["incomplete"] is True


@pytest.mark.slow
def test_the_report_is_a_download_and_the_begin_of_an_id_is_enough(service: Running) -> None:
    name = fetched(service, "/api/v1/incidents")["incidents"][0]["id"]
    status, headers, _ = asked(service, f"/incidents/{name[:4]}/report.html")

    assert (status, headers["content-disposition"]) == (200, f'attachment; filename="incident-{name}.html"')


@pytest.mark.slow
def test_wrong_questions_are_answered_with_what_is_right(service: Running) -> None:
    assert asked(service, "/api/v1/incidents?limit=9999")[::2] == (
        400,
        '{"error":"limit: expected a number from 1 to 200, got \'9999\'"}\n',
    )
    assert asked(service, "/?state=<script>")[0] == 400
    assert "<script>a" not in asked(service, "/?q=<script>a")[2]
    assert asked(service, "/api/v1/incidents/0000")[0] == 404
    assert asked(service, "/incidents/0000")[0] == 404


@pytest.mark.slow
def test_an_unknown_path_is_answered_in_the_form_of_its_neighbours(service: Running) -> None:
    status, _, page = asked(service, "/incidents/nothing-like-an-id")
    assert (status, "<h1>404 Not Found</h1>" in page) == (404, True)

    assert asked(service, "/api/v1/nothing")[::2] == (404, '{"error":"there is nothing at /api/v1/nothing"}\n')


@pytest.mark.slow
def test_json_is_written_over_several_lines_on_request(service: Running) -> None:
    line, lines = (asked(service, f"/api/v1/incidents{query}")[2] for query in ("", "?pretty=true"))

    assert (line.count("\n"), lines.count("\n") > 5) == (1, True)
    assert json.loads(line) == json.loads(lines)


@pytest.mark.slow
def test_a_page_is_found_by_command_and_shown_in_the_zone_of_the_reader(service: Running) -> None:
    status, headers, _ = asked(service, "/?q=&command=curl&state=")
    assert (status, headers["location"]) == (303, "/?command=curl")

    status, headers, _ = asked(service, "/?command=curl&tz=%2B02%3A00")
    assert (status, headers["location"]) == (303, "/?command=curl")
    assert headers["set-cookie"].startswith("tz=+02:00; ")

    page = asked(service, "/?command=curl", Cookie="tz=+02:00")[2]
    assert "1 incident</caption>" in page
    assert "05:03" in page


@pytest.mark.slow
def test_an_incident_has_its_alerts_without_their_secrets(serving: Serving, rule: CorrelationRule) -> None:
    curl = spec(
        "tini > nginx > sh > curl", "network", fields={"proc.cmdline": "curl -u bob:hunter22 http://203.0.113.9"}
    )
    with serving(STDOUT) as running:
        for body in alerts(rule, [SHELL, curl]):
            running.post(body)
        settled(running, 1)
        (row,) = fetched(running, "/api/v1/incidents")["incidents"]
        incident = fetched(running, f"/api/v1/incidents/{row['id']}")

    assert [alert["moment"] for alert in incident["alerts"]] == [1, 2]
    assert "curl -u" in incident["alerts"][1]["output_fields"]["proc.cmdline"]
    assert "hunter22" not in json.dumps(incident)


@pytest.mark.slow
@pytest.mark.parametrize("since", ["9999999h", "999999999w", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_any_since_is_answered(service: Running, since: str) -> None:
    assert (
        asked(service, f"/?since={since}")[0]
        == asked(service, f"/api/v1/incidents?since={since}&until={since}")[0]
        == 200
    )


@pytest.mark.slow
def test_an_id_that_two_begin_with_is_refused_with_both(service: Running) -> None:
    name = fetched(service, "/api/v1/incidents")["incidents"][0]["id"]
    twin = name[:8] + "0" * 8
    within(service, lambda archive: _twin(archive, name, twin))
    status, _, text = asked(service, f"/api/v1/incidents/{name[:8]}")

    assert status == 409
    assert name in text
    assert twin in text


@pytest.mark.slow
def test_every_answer_forbids_caching_framing_sniffing_and_foreign_scripts(service: Running) -> None:
    name = fetched(service, "/api/v1/incidents")["incidents"][0]["id"]
    for path in ("/", f"/incidents/{name}", "/incidents/0000", f"/incidents/{name}/report.html"):
        _, headers, _ = asked(service, path)
        assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
    for path in ("/", "/api/v1/incidents", f"/api/v1/incidents/{name}", "/api/v1/openapi.json"):
        _, headers, _ = asked(service, path)
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
        assert (headers["x-frame-options"], headers["referrer-policy"]) == ("DENY", "no-referrer")
        assert not [header for header in headers if header.startswith("access-control")]


@pytest.mark.slow
def test_a_page_of_others_cannot_make_a_browser_read_incidents(service: Running) -> None:
    for name in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1"):
        assert asked(service, "/api/v1/incidents", Host=name)[0] == 403
        assert asked(service, "/", Host=name)[0] == 403
    for name in ("localhost", "LOCALHOST:2812", "127.0.0.1:1", "[::1]:2812", "10.1.2.3"):
        assert asked(service, "/", Host=name)[0] == 200
    assert asked(service, "/metrics", Host="correlator.falco.svc")[0] == 200


@pytest.mark.parametrize(
    ("pages", "local", "host", "welcome"),
    [
        ("loopback", True, "localhost:2812", True),
        ("loopback", False, "10.0.0.7:2812", False),
        ("everyone", False, "10.0.0.7:2812", True),
        ("everyone", False, "correlator.example", False),
        ("everyone", False, "Incidents.Example:443", True),
    ],
)
def test_who_is_not_on_loopback_sees_no_incident_unless_told_so(
    pages: Any, local: bool, host: str, welcome: bool
) -> None:
    admin = Admin(pages=pages, allowed_hosts=["incidents.example"])

    assert (api.unwelcome(Request("GET", "/", b"", host, local), admin) == "") is welcome


@pytest.mark.slow
def test_pages_can_be_turned_off(serving: Serving) -> None:
    with serving({**STDOUT, "admin": {"port": 0, "pages": "nobody"}}) as running:
        assert [asked(running, path)[0] for path in ("/", "/api/v1/incidents", "/healthz")] == [404, 404, 200]


@pytest.mark.slow
def test_configured_links_are_filled_in_and_quoted(serving: Serving, rule: CorrelationRule) -> None:
    links = {"Grafana": "https://grafana.example/d/x?var-pod={pod}&from={first_ms}"}
    with serving({**STDOUT, "admin": {"port": 0, "links": links}}) as running:
        for body in alerts(rule, [spec("tini > nginx > sh", "web_shell", fields={"k8s.pod.name": 'a&b="><i>'}), CURL]):
            running.post(body)
        settled(running, 1)
        (row,) = fetched(running, "/api/v1/incidents")["incidents"]
        made = fetched(running, f"/api/v1/incidents/{row['id']}")["links"]["Grafana"]

    assert re.fullmatch(r"https://grafana\.example/d/x\?var-pod=a%26b%3D%22%3E%3Ci%3E&from=\d{13}", made)


def test_json_is_ascii_so_that_it_steers_no_terminal() -> None:
    for text in INJECTIONS:
        body = api._json("400 Bad Request", openapi.Problem(text)).body
        assert body[:-1].isascii()
        assert body[:-1].decode().isprintable()
        assert json.loads(body) == {"error": text}


def test_the_openapi_document_describes_every_path_field_and_problem() -> None:
    document = openapi.document()
    schemas = document["components"]["schemas"]
    references = re.findall(r"#/components/schemas/(\w+)", json.dumps(document))

    assert set(document["paths"]) == {
        "/api/v1/incidents",
        "/api/v1/incidents/{id}",
        "/api/v1/rules",
        "/api/v1/why",
    }
    assert set(references) <= set(schemas)
    assert set(schemas["Incident"]["properties"]) == {field.name for field in msgspec.structs.fields(view.Incident)}
    for path in document["paths"].values():
        assert {"200", "400", "403", "404"} <= set(path["get"]["responses"])


@pytest.mark.slow
def test_the_openapi_document_is_valid_and_answers_fit_it(service: Running) -> None:
    document = fetched(service, "/api/v1/openapi.json")
    name = fetched(service, "/api/v1/incidents")["incidents"][0]["id"]

    import openapi_spec_validator  # half a second, which the quick tests would pay at collection

    openapi_spec_validator.validate(document)
    for kind, path in (("Page", "/api/v1/incidents"), ("Incident", f"/api/v1/incidents/{name}")):
        schema = {"$ref": f"#/components/schemas/{kind}", "components": document["components"]}
        jsonschema.validate(fetched(service, path), schema)


@pytest.mark.slow
def test_when_the_state_file_cannot_be_read_the_page_says_so(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(type(service.service.outbox.archive), "found", broken)

    assert asked(service, "/api/v1/incidents")[::2] == (
        503,
        '{"error":"the state file cannot be read: disk I/O error"}\n',
    )


@pytest.mark.slow
def test_incidents_survive_a_restart_with_their_steps(serving: Serving, rule: CorrelationRule, tmp_path: Path) -> None:
    settings = {**STDOUT, "state": {"path": str(tmp_path / "state.db")}}
    with serving(settings) as running:
        for body in alerts(rule, [SHELL, CURL, CAT, CAT_AGAIN]):
            running.post(body)
        settled(running, 2)
    with serving(settings) as running:
        (row,) = fetched(running, "/api/v1/incidents")["incidents"]

    assert ([step["severity"] for step in row["steps"]], row["detections"]) == (["medium", "critical"], 4)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/", "/api/v1/incidents?limit=200", "/?q=web-99&sort=severity", "/?offset=9900"])
def test_with_10000_incidents_a_list_has_one_page_of_them(service: Running, path: str) -> None:
    within(service, _fill)
    status, *_, page = asked(service, path)

    assert status == 200
    assert len(page) < 200_000


def _fill(archive: Archive) -> None:
    archive._capacity = archive._max_bytes = archive._max_alert_bytes = 10**9
    note = _only(archive)
    for number in range(10_000):
        where = note.where._replace(pod=f"web-{number}")
        archive.put(replace(note, incident=f"{number:016x}", where=where), step=True)


def _twin(archive: Archive, name: str, twin: str) -> None:
    archive.put(replace(_only(archive), incident=twin), step=True)


def _only(archive: Archive) -> Notification:
    (row,), _ = archive.listed(IncidentFilter(), 0)
    found = archive.find(row.id)
    assert found is not None
    return found[0]


@pytest.mark.slow
def test_a_service_whose_pages_nobody_opens_does_not_load_them() -> None:
    code = "import sys, sidecar.service.service, sidecar.service.run; print([m for m in sys.modules if 'jinja' in m or 'pages' in m or m == 'sidecar.admin.api'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
