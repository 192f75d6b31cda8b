"""The Grafana dashboard: valid, and every expression answered by a real Prometheus that scrapes a real service."""

import http.client
import json
import re
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import DATA, Running, Serving, fed, needs
from service.test_supervisor import free_port
from support import real_falcosidekick
from support.falcosidekick import Falcosidekick
from support.real_falcosidekick import Receivers
from support.rules import RULES
from support.waiting import wait_until

from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents.falco_event import to_json
from sidecar.rules.loading import SHIPPED

FILE = Path(__file__).parents[2] / "charts/falco-correlator/dashboards/falco-correlator.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {
    f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]
} | {each["name"]: each["expr"] for each in DASHBOARD["annotations"]["list"]}
ATTACK = (SHIPPED / "recordings/demo.jsonl").read_bytes().splitlines()
STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()

OF_ANOTHER_MODE = {"Connections B"}
"""Falco over gRPC, which is off where alerts come over http."""

OF_FALCOSIDEKICK = {name: expression for name, expression in EXPRESSIONS.items() if "falcosidekick_" in expression}
"""What Falcosidekick counts: places of incidents, which our own metrics do not have as labels."""

BORROWED = {"titleFormat", "textFormat"}
"""Fields of Prometheus' annotations, which are not in Grafana's own model of a dashboard."""


def filled(expression: str) -> str:
    """The expression as Grafana sends it, variables replaced."""
    for name, value in {
        "__rate_interval": "10s",
        "__range": "1m",
        "namespace": "falco",
        "pod": ".*",
        "case": ".+",
    }.items():
        expression = re.sub(rf"\${name}\b", value, expression)
    return expression


def lost(given: object, kept: object, path: str = "") -> Iterator[str]:
    """Paths in `given` that `kept` does not have, or has otherwise."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, value in given.items():
            yield from lost(value, kept[name], f"{path}.{name}") if name in kept else [f"{path}.{name}"]
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for one, other in zip(given, kept, strict=True):
            yield from lost(one, other, path)
    elif given != kept:
        yield path


def test_grafanas_own_model_of_a_dashboard_knows_every_field() -> None:
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import Dashboard

    plugins.register_default_plugins()
    kept = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))

    assert {path.rpartition(".")[2] for path in lost(DASHBOARD, kept)} == BORROWED


def test_the_data_source_is_chosen_by_the_user() -> None:
    sources = set(re.findall(r'"uid": "([^"]*)"', FILE.read_text())) - {DASHBOARD["uid"]}
    (variable,) = [each for each in DASHBOARD["templating"]["list"] if each["type"] == "datasource"]

    assert sources == {"${datasource}"}
    assert (variable["name"], variable["query"]) == ("datasource", "prometheus")
    assert "id" not in DASHBOARD


def test_panels_have_a_title_a_sentence_and_a_place_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert panel["title"]
        assert panel["type"] == "row" or panel["description"].endswith(".")
        assert place["x"] + place["w"] <= 24
        assert not taken & cells
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


OURS = {name: expression for name, expression in EXPRESSIONS.items() if name not in OF_FALCOSIDEKICK}


def test_incidents_come_first_with_which_and_where() -> None:
    first, table = DASHBOARD["panels"][:2]
    (cases,) = (each for each in DASHBOARD["templating"]["list"] if each["name"] == "case")

    assert (first["title"], table["type"]) == ("Incidents", "table")
    for label in ("rule", "priority_raw", "k8s_ns_name", "k8s_pod_name", "hostname"):
        assert label in table["targets"][0]["expr"]
    assert cases["current"]["value"] == "|".join(sorted({case.name for rule in RULES for case in rule.cases}))


@pytest.mark.parametrize("expression", OURS.values(), ids=OURS)
def test_an_expression_looks_at_the_chosen_namespace_and_pods_only(expression: str) -> None:
    selectors = re.findall(r"falco_correlator_\w+(\{[^}]*\}|)", expression)

    assert selectors
    assert all(each.startswith('{namespace=~"$namespace", pod=~"$pod"') for each in selectors)


@contextmanager
def prometheus(service: Running, folder: Path) -> Iterator[str]:
    """A Prometheus that scrapes the service; gives its address."""
    labels = {"namespace": "falco", "pod": "node-1"}
    with scraping({"targets": [f"127.0.0.1:{service.service.admin_port}"], "labels": labels}, folder) as address:
        wait_for(lambda: asked(address, "count_over_time(falco_correlator_build_info[1m]) > 1"))
        yield address


@contextmanager
def scraping(target: dict[str, Any], folder: Path) -> Iterator[str]:
    """A Prometheus that scrapes a target four times a second; gives its address."""
    program, port = needs("prometheus"), free_port()
    job = {
        "job_name": "falco-correlator",
        "scrape_interval": "250ms",
        "scrape_timeout": "250ms",
        "static_configs": [target],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
    running = subprocess.Popen(
        [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: asked(f"127.0.0.1:{port}", "count_over_time(up[1m]) > 1"))
        yield f"127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(60)


def wait_for(holds: Callable[[], object]) -> None:
    def answered() -> object:
        try:
            return holds()
        except (OSError, json.JSONDecodeError):  # not yet listening, or "Service Unavailable" while it starts
            return False

    wait_until(answered, why="Prometheus did not scrape the service")


def asked(address: str, expression: str) -> list[Any]:
    """The series that Prometheus answers with."""
    with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        connection.request("GET", f"/api/v1/query?query={urllib.parse.quote(expression)}")
        answer = connection.getresponse()
        reply = json.loads(answer.read())
    assert reply["status"] == "success", f"{expression}: {reply['error']}"
    result: list[Any] = reply["data"]["result"]
    return result


def everything_happens(service: Running) -> None:
    """Incidents, odd alerts and a refused sender."""
    via_falcosidekick = json.dumps({**json.loads(ATTACK[-1]), "uuid": "x"}).encode()
    for line in [*ATTACK, *STOCK, via_falcosidekick, b"hello"]:
        service.post(line)
    with closing(http.client.HTTPConnection("127.0.0.1", service.service.http_port, timeout=60)) as stranger:
        stranger.request("POST", "/", b"x", {"Content-Encoding": "gzip"})
        assert stranger.getresponse().status == 415


@pytest.mark.slow
def test_prometheus_answers_every_expression_with_data(
    serving: Serving, sidekick: Falcosidekick, tmp_path: Path
) -> None:
    sinks = {"falcosidekick": {"url": sidekick.url}, "webhook": {"url": "http://127.0.0.1:9/"}}
    with serving({"sinks": sinks}) as service, prometheus(service, tmp_path) as address:
        everything_happens(service)
        wait_for(lambda: asked(address, 'increase(falco_correlator_http_refused_total{status="415"}[1m]) > 0'))
        answers = {name: asked(address, filled(expression)) for name, expression in OURS.items()}

    assert {name for name, series in answers.items() if not series} == OF_ANOTHER_MODE
    assert [series for name, series in answers.items() if "NaN" in str(series) and "Response time" not in name] == []


@pytest.mark.slow
def test_every_metric_name_is_one_that_the_service_has(serving: Serving, sidekick: Falcosidekick) -> None:
    grpc = {"enabled": True, "address": "unix:///nowhere/falco.sock"}
    with serving({"sinks": {"falcosidekick": {"url": sidekick.url}}, "grpc": grpc}) as service:
        everything_happens(service)
        text = service.get("/metrics")[1]
    had = set(re.findall(r"^(falco_correlator_\w+)", text, re.MULTILINE))
    named = {name for expression in EXPRESSIONS.values() for name in re.findall(r"falco_correlator_\w+", expression)}
    queries = " ".join(each["query"]["query"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query")

    assert named | set(re.findall(r"falco_correlator_\w+", queries)) <= had


@pytest.mark.slow
def test_every_metric_is_on_the_dashboard(serving: Serving, sidekick: Falcosidekick) -> None:
    with serving({"sinks": {"falcosidekick": {"url": sidekick.url}}}) as service:
        text = service.get("/metrics")[1]
    had = set(re.findall(r"^# TYPE (falco_correlator_\w+)", text, re.MULTILINE))

    assert {name for name in had if not any(name in expression for expression in EXPRESSIONS.values())} == set()


@pytest.mark.slow
def test_the_table_of_incidents_shows_what_the_real_falcosidekick_counted(tmp_path: Path) -> None:
    """A case that was counted for the first time is a new series at 1, which `increase` would not show."""
    real_falcosidekick.binary()
    receivers = Receivers(tmp_path)
    steps = fed(Pipeline(RULES, lambda: 0.0), ATTACK)
    settings = {"webhook": {"address": f"{receivers.url}/webhook"}}
    (expression,) = OF_FALCOSIDEKICK.values()
    with (
        closing(receivers),
        real_falcosidekick.running(tmp_path, settings, receivers) as real,
        scraping({"targets": [real.url.removeprefix("http://")]}, tmp_path) as address,
    ):
        for step in steps:
            assert real.post(to_json(step)) == 200
        wait_for(lambda: len(asked(address, filled(expression))) == len(steps))
        rows = [(each["metric"], each["value"][1]) for each in asked(address, filled(expression))]

    assert sorted((labels["rule"], labels["k8s_ns_name"], count) for labels, count in rows) == sorted(
        (step.case, step.where.namespace, "1") for step in steps
    )
