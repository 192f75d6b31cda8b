"""Why detections led to no incident: what was there, what was missing, what was declined."""

import json
from pathlib import Path

import pytest
from cli.test_main import ran
from conftest import Play, Serving, spec
from support.rules import WEB_RCE

from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents import why
from sidecar.incidents.why import Why
from sidecar.meaning.declined import REASONS

SHELL = spec("php-fpm > sh", "web_shell")
CURL = spec("php-fpm > sh > curl", "network", at="1s")


def only(pipeline: Pipeline) -> Why:
    (place,) = why.without_incident(pipeline).places
    return place


def test_a_context_says_which_groups_were_there_and_what_each_case_lacks(pipeline: Pipeline, play: Play) -> None:
    play(SHELL)
    (context,) = only(pipeline).contexts
    lacking = {case.case: case.groups for case in context.lacking}

    assert (context.groups, context.incident, context.rule) == (("web_shell",), "", WEB_RCE.id)
    assert context.anchor.startswith("php-fpm (")
    assert lacking["Web Shell with Network Activity"] == ("network",)
    assert lacking["Full Web Application Compromise"] in (("shell_technique", "credential"), ("network", "credential"))


def test_a_detection_that_waits_says_which_context_it_would_join(pipeline: Pipeline, play: Play) -> None:
    play(CURL)
    (waiting,) = only(pipeline).waiting

    assert waiting.groups == ("network",)
    assert "it would join the context of php-fpm (" in waiting.joins
    assert "as soon as web_shell is seen below that" in waiting.joins


def test_a_detection_without_a_service_above_says_so(pipeline: Pipeline, play: Play) -> None:
    play(spec("runc > bash > curl", "network"))
    (waiting,) = only(pipeline).waiting

    assert waiting.joins.startswith("it would join none: ")


def test_a_declined_detection_says_by_which_question(pipeline: Pipeline, play: Play) -> None:
    play(*(spec("npm > sh", "web_shell", at=f"{second}s") for second in range(3)))
    (declined,) = only(pipeline).declined

    assert (declined.count, declined.command) == (3, "sh")
    assert (declined.question, declined.meaning) == REASONS[declined.reason]


def test_what_is_noted_of_declined_detections_is_bounded(pipeline: Pipeline, play: Play) -> None:
    names = [f"sh-{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(40)]
    play(*(spec("npm > sh", "web_shell", fields={"proc.cmdline": name}) for name in names))

    assert len(only(pipeline).declined) <= 16


def test_an_incident_needs_no_explanation_but_has_one(pipeline: Pipeline, play: Play) -> None:
    (note,) = play(SHELL, CURL)
    (place,) = why.explain(pipeline, "app").places

    assert why.without_incident(pipeline).places == ()
    assert place.contexts[0].incident == note.incident
    assert [case.case for case in place.contexts[0].lacking] == [
        "Full Web Application Compromise",
        "Web Shell with Network Activity (interactive)",
    ]


@pytest.mark.parametrize("text", ["below php-fpm (", "Web Shell with Network Activity (medium) lacks network"])
def test_replay_explains_what_led_to_no_incident(tmp_path: Path, text: str) -> None:
    file = tmp_path / "alerts.jsonl"
    file.write_bytes(b"\n".join(alerts(WEB_RCE, [SHELL])))

    assert text in ran("replay", "--explain", file).stdout


def test_a_running_service_is_asked_why(serving: Serving) -> None:
    with serving({"sinks": {"stdout": {"enabled": True}}}) as service:
        for body in alerts(WEB_RCE, [SHELL]):
            service.post(body)
        status, text = service.get("/api/v1/why?place=app")
        unknown = service.get("/api/v1/why?place=nowhere")[0]
        wrong = service.get("/api/v1/why?pod=app")[0]
        url = f"http://127.0.0.1:{service.service.admin_port}"
        shown = ran("incidents", "--url", url, "why", "app").stdout
        missing = ran("incidents", "--url", url, "why", "nowhere")

    assert (status, unknown, wrong) == (200, 404, 400)
    assert json.loads(text)["places"][0]["contexts"][0]["groups"] == ["web_shell"]
    assert "lacks network" in shown
    assert (missing.exit_code, "nothing is remembered of 'nowhere'" in missing.stderr) == (1, True)


def test_a_state_file_cannot_say_why(tmp_path: Path) -> None:
    (tmp_path / "state.db").touch()
    result = ran("incidents", "--state", tmp_path / "state.db", "why", "app")

    assert (result.exit_code, "replay --explain FILE" in result.stderr) == (3, True)
