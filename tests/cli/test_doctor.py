"""`falco-correlator doctor` says what Falco and a correlator lack: in settings, Helm values, ConfigMaps, and running.

Covers: `cli.checking.documents`, `cli.checking.running`, `cli.checking.report`.
"""

import json
import platform
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from conftest import Serving
from project.test_readme import falco_settings

from sidecar.cli.doctor import MACHINES
from sidecar.cli.main import main
from sidecar.model import APPENDED, ASKED, PACKED
from sidecar.rules.loading import SHIPPED

HERE = MACHINES[platform.machine()]

OVERLAYS = Path(__file__).parents[2] / "charts" / "falco-correlator" / "overlays"

GOOD = falco_settings("# falco.yaml, or")
GRPC = {
    **yaml.safe_load(GOOD),
    "http_output": {"enabled": False},
    "grpc": {"enabled": True},
    "grpc_output": {"enabled": True},
}


def examined(tmp_path: Path, text: str, *options: str) -> tuple[int, str]:
    file = tmp_path / "falco.yaml"
    file.write_text(text)
    result = CliRunner().invoke(main, ["doctor", str(file), *options])
    return result.exit_code, result.output


def test_the_settings_of_the_readme_are_right(tmp_path: Path) -> None:
    code, result = examined(tmp_path, GOOD)

    assert (code, result.endswith("falco.yaml, mode http: 0 wrong, 0 to consider\n")) == (0, True)


def test_grpc_settings_are_recognised_and_right(tmp_path: Path) -> None:
    code, result = examined(tmp_path, yaml.safe_dump(GRPC))

    assert (code, "mode grpc: 0 wrong" in result) == (0, True)


@pytest.mark.parametrize(
    ("change", "what", "line"),
    [
        ({"json_output": False}, "Falco sends text", "json_output: true"),
        ({"rule_matching": "first"}, "hides every second rule", "rule_matching: all"),
        ({"json_include_tags_property": False}, "recognised by their tags", "json_include_tags_property: true"),
        ({"json_include_output_fields_property": False}, "without the fields", "json_include_output_fields_property"),
        ({"http_output": {"enabled": False}}, "http_output is off", "url: http://127.0.0.1:2802/"),
        ({"http_output": {"enabled": True, "url": ""}}, "has no url", "url: http://127.0.0.1:2802/"),
        ({"append_output": []}, "stock rules lack fields", 'lineage.packed: "?1;%proc.pid;'),
        ({"outputs_queue": {"capacity": 0}}, "unbounded", "capacity: 10000"),
        ({"grpc_output": {"enabled": True}}, "0.44 no longer has it", "grpc_output:"),
    ],
)
def test_each_thing_that_is_wrong_is_told_with_the_lines_to_add(
    tmp_path: Path, change: dict[str, object], what: str, line: str
) -> None:
    _, result = examined(tmp_path, yaml.safe_dump({**yaml.safe_load(GOOD), **change}), "--mode", "http")

    assert what in result
    assert line in result


LOADED = {
    "load_plugins": ["container", "lineage"],
    "plugins": [{"name": "lineage", "library_path": "/nowhere/liblineage.so"}],
    "append_output": [{"match": {"source": "syscall"}, "extra_fields": [*APPENDED, PACKED]}],
}


def test_a_loaded_plugin_needs_fewer_fields(tmp_path: Path) -> None:
    code, result = examined(tmp_path, yaml.safe_dump({**yaml.safe_load(GOOD), **LOADED}))

    assert (code, "plugin lineage is loaded\n" in result, "0 wrong, 0 to consider" in result) == (0, True, True)


def test_without_the_plugin_it_says_what_would_be_gained(tmp_path: Path) -> None:
    assert "not loaded; with it, detections are placed by the true ancestry" in examined(tmp_path, GOOD)[1]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"load_plugins": ["container"]}, "configured, but not loaded"),
        ({"plugins": []}, "Falco will not start"),
        ({"append_output": [{"extra_fields": [*ASKED]}]}, "do not carry its ancestry"),
        ({"append_output": [{"extra_fields": [*APPENDED, {PACKED: "?1;"}]}]}, "do not carry its ancestry"),
    ],
)
def test_what_is_wrong_with_the_plugin_is_reported(tmp_path: Path, change: dict[str, object], what: str) -> None:
    assert what in examined(tmp_path, yaml.safe_dump({**yaml.safe_load(GOOD), **LOADED, **change}))[1]


@pytest.mark.parametrize(("machine", "fits"), [(HERE, True), (40, False)])
def test_a_library_for_another_machine_is_wrong(tmp_path: Path, machine: int, fits: bool) -> None:
    library = tmp_path / "liblineage.so"
    library.write_bytes(b"\x7fELF".ljust(18, b"\0") + machine.to_bytes(2, "little"))
    plugins = {"plugins": [{"name": "lineage", "library_path": str(library)}]}
    code, result = examined(tmp_path, yaml.safe_dump({**yaml.safe_load(GOOD), **LOADED, **plugins}))

    assert (code == 0, "for another machine" not in result) == (fits, fits)


def test_an_empty_default_file_is_wrong_in_three_ways_and_exits_1(tmp_path: Path) -> None:
    code, result = examined(tmp_path, "{}")

    assert (code, result.count("WRONG ")) == (1, 3)


def test_a_configmap_is_looked_into(tmp_path: Path) -> None:
    code, _ = examined(tmp_path, yaml.safe_dump({"kind": "ConfigMap", "data": {"falco.yaml": GOOD}}))

    assert code == 0


@pytest.mark.parametrize("text", ["- a", "kind: ConfigMap\ndata: {}", "a: [", "a: *x"])
def test_what_is_no_falco_yaml_exits_2(tmp_path: Path, text: str) -> None:
    code, result = examined(tmp_path, text)

    assert (code, "Traceback" in result) == (2, False)


def values(falco: Mapping[str, object], **others: object) -> str:
    """Values of the official Falco chart with the settings of the README, changed."""
    return yaml.safe_dump({"falco": {**yaml.safe_load(GOOD), **falco}, **others})


SIDEKICK = {"http_output": {"enabled": True, "url": "http://falco-falcosidekick:2801/"}}


@pytest.mark.parametrize("form", ["falco.yaml", "values", "chart default", "umbrella", "configmap", "list", "json"])
def test_http_output_to_falcosidekick_is_wrong_whatever_it_is_written_in(tmp_path: Path, form: str) -> None:
    settings = {**yaml.safe_load(GOOD), **SIDEKICK}
    configmap = {"kind": "ConfigMap", "data": {"falco.yaml": yaml.safe_dump(settings)}}
    text = {
        "falco.yaml": yaml.safe_dump(settings),
        "values": values(SIDEKICK),
        "chart default": values({"http_output": {}}, falcosidekick={"enabled": True}),
        "umbrella": yaml.safe_dump({"monitoring": {"falco": yaml.safe_load(values(SIDEKICK))}}),
        "configmap": yaml.safe_dump(configmap),
        "list": "kind: List\nitems:\n- " + yaml.safe_dump(configmap).replace("\n", "\n  "),
        "json": json.dumps({"kind": "List", "items": [configmap]}),
    }[form]
    code, result = examined(tmp_path, text)

    assert code == 1
    assert re.search(r"^WRONG  \S+/falco\.yaml:\d+: http_output sends to Falcosidekick \(http://", result, re.MULTILINE)
    assert "passes every alert on" in result


def test_what_is_wrong_in_a_configmap_has_its_line_in_the_file(tmp_path: Path) -> None:
    text = "kind: ConfigMap\ndata:\n  falco.yaml: |\n    json_output: true\n    rule_matching: first\n"

    assert f"WRONG  {tmp_path}/falco.yaml:5: rule_matching hides" in examined(tmp_path, text)[1]


@pytest.mark.parametrize("overlay", sorted(OVERLAYS.glob("*.yaml")), ids=lambda path: path.stem)
def test_our_own_overlays_are_right(overlay: Path) -> None:
    result = CliRunner().invoke(main, ["doctor", str(overlay)])

    assert (result.exit_code, "0 wrong, 0 to consider" in result.output) == (0, True), result.output


def test_an_address_of_the_chart_without_its_secret_path_is_wrong(tmp_path: Path) -> None:
    output = {"enabled": True, "url": "http://falco-correlator.falco.svc:2802/"}
    code, result = examined(tmp_path, values({"http_output": output}))

    assert (code, "lacks the secret path" in result, "2802${FALCO_CORRELATOR_PATH}" in result) == (1, True, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mode: http\nconfig:\n  coalesce: 5\n", ":3: config.coalesce: expected a duration"),
        ("correlator:\n  config: {htpp: {}}\n", ":2: config.htpp: unknown key, did you mean 'http'?"),
        ("passThrough: all\ncorrelationRules:\n  files:\n    x.yaml: 'id: x'\n", ":4: x.yaml: groups: is missing"),
        ("mode: http\nfalcosidekick: {url: ''}\n", ":2: falcosidekick.url is empty"),
    ],
)
def test_values_of_our_chart_are_checked_like_the_files_that_they_become(tmp_path: Path, text: str, words: str) -> None:
    code, result = examined(tmp_path, text)

    assert (code, words in result) == (1, True), result


def test_the_values_that_our_chart_ships_are_right() -> None:
    assert CliRunner().invoke(main, ["doctor", str(OVERLAYS.parent / "values.yaml")]).exit_code == 0


def test_falco_rules_are_counted_and_ours_among_them() -> None:
    result = CliRunner().invoke(main, ["doctor", str(SHIPPED / "web_rce_rules.yaml")])

    assert re.search(r"note   (\d+) Falco rules, \1 of them ours", result.output)


def test_settings_of_the_correlator_are_sent_to_check(tmp_path: Path) -> None:
    code, result = examined(tmp_path, "sinks: {stdout: {enabled: true}}")

    assert (code, "use: falco-correlator check --config" in result) == (2, True)


def test_standard_input_is_read_and_the_result_is_json_for_machines(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["doctor", "-", "-o", "json"], input=values(SIDEKICK))
    told = json.loads(result.stdout)

    assert (result.exit_code, told["ok"], told["wrong"], told["sources"][0]["mode"]) == (1, False, 1, "http")
    assert told["sources"][0]["findings"][0]["where"].startswith("standard input:")


@contextmanager
def answering(pages: dict[str, str]) -> Iterator[str]:
    """A program that gives these answers by path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


FALCO = {
    "/healthz": '{"status": "ok"}',
    "/versions": '{"falco_version": "0.44.1", "engine_version": "62", "engine_version_semver": "0.62.0"}',
    "/metrics": """\
# HELP falcosecurity_falco_sha256_rules_files_info https://falco.org/docs/metrics/
falcosecurity_falco_sha256_rules_files_info{file_name="falco_rules.yaml",sha256="5e7b"} 1
falcosecurity_falco_rules_matches_total{priority="4",rule_name="Read sensitive file",source="syscall"} 3
falcosecurity_falco_outputs_queue_num_drops_total 7
falcosecurity_scap_n_drops_total 100
falcosecurity_scap_n_evts_total 9900
""",
}


def asked(url: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["doctor", url])
    return result.exit_code, result.output


def test_a_running_falco_tells_its_version_its_rules_and_what_it_drops() -> None:
    with answering(FALCO) as url:
        code, result = asked(url)

    assert code == 1
    assert "note   Falco 0.44.1, engine 0.62.0" in result
    assert f"WRONG  {url}: web_rce_rules.yaml is not loaded" in result
    assert f"WRONG  {url}: 7 alerts were dropped because an output is too slow" in result
    assert "100 kernel events were dropped (1.00%)" in result
    assert "note   3 alerts of 1 rules since its start" in result


def test_a_falco_without_metrics_is_told_how_to_turn_them_on() -> None:
    with answering({**FALCO, "/metrics": ""}) as url:
        code, result = asked(url)

    assert (code, "prometheus_metrics_enabled: true" in result) == (0, True)


SERVED = {
    "alerts_received_total": '{source="http"} 5.0',
    "detections_total": " 1.0",
    "degraded": '{cause="canary"} 0.0',
}


@pytest.mark.parametrize(
    ("metrics", "code", "words"),
    [
        ({}, 0, "5 alerts, 1 detections, 0 incidents"),
        ({"alerts_received_total": '{source="http"} 0.0'}, 1, "no alert has arrived"),
        ({"detections_total": " 0.0"}, 0, "none is evidence"),
        (
            {"http_refused_total": '{status="404"} 3.0'},
            1,
            "3 requests have the wrong path: Falco's URL lacks the secret",
        ),
        ({"http_refused_total": '{status="tls"} 3.0'}, 1, "client certificate"),
        ({"alerts_rejected_total": '{reason="text_mode"} 2.0'}, 1, "2 alerts were not correlated: It is text"),
        ({"alerts_rejected_total": '{reason="duplicate"} 2.0'}, 0, "0 wrong, 0 to consider"),
        ({"degraded": '{cause="canary"} 1.0'}, 1, "degraded: the canary does not come back, or only by one rule"),
        (
            {"degraded": '{cause="canary"} 1.0', "alerts_received_total": " 0.0"},
            1,
            "canary does not come back: Falco does",
        ),
        ({"degraded": '{cause="refused_senders"} 1.0'}, 1, "degraded: senders are refused"),
        ({"state_file_unavailable": " 1.0"}, 1, "a restart would lose open incidents"),
        ({"config_refused": " 1.0"}, 1, "the newest change of rules or settings is refused"),
        ({"config_needs_restart": " 2.0"}, 0, "2 changed settings take effect after a restart"),
        ({"sink_oldest_seconds": '{sink="webhook"} 90.0'}, 1, "sink webhook has not accepted a notification for 90 s"),
        ({"sink_notifications_total": '{sink="file",outcome="refused"} 1.0'}, 1, "sink file: 1 notifications refused"),
        ({"pass_through_alerts_total": '{outcome="dropped"} 9.0'}, 1, "9 raw alerts did not reach Falcosidekick"),
    ],
)
def test_a_running_correlator_is_judged_by_its_metrics(metrics: dict[str, str], code: int, words: str) -> None:
    text = "".join(f"falco_correlator_{name}{value}\n" for name, value in {**SERVED, **metrics}.items())
    with answering({"/healthz": "ok\n", "/metrics": text}) as url:
        found, result = asked(url)

    assert (found, words in result) == (code, True), result


@pytest.mark.parametrize(("pages", "words"), [({}, "is neither"), ({"/healthz": "", "/metrics": ""}, "is neither")])
def test_an_address_of_something_else_is_wrong(pages: dict[str, str], words: str) -> None:
    with answering(pages) as url:
        assert words in asked(url)[1]


def test_nothing_answers_is_wrong_and_no_error() -> None:
    code, result = asked("http://127.0.0.1:9")

    assert (code, "does not answer: [Errno 111] Connection refused" in result) == (1, True)


@pytest.mark.slow
def test_a_real_service_is_recognised(serving: Serving) -> None:
    with serving({}) as service:
        code, result = asked(f"http://127.0.0.1:{service.service.admin_port}")

    assert (code, "(correlator): 1 wrong" in result) == (1, True), result
    assert "no alert has arrived" in result
