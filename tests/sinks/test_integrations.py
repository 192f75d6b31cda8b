"""What docs/integrations.md says is so: its settings in the real programs, with the demo's incident."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import needs
from support.integrations import PAGE, Captured, blocks, demo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Captured]:
    with demo(tmp_path_factory.mktemp("integrations")) as found:
        yield found


def test_alertmanager_takes_the_configuration_of_the_page(tmp_path: Path) -> None:
    (text,) = blocks("# alertmanager.yml")
    file = tmp_path / "alertmanager.yml"
    file.write_text(text)

    done = subprocess.run([needs("amtool"), "check-config", file], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_of_an_incident_that_rose_one_alert_is_active_and_the_lower_step_is_inhibited(captured: Captured) -> None:
    states = {alert["labels"]["incident_severity"]: alert["status"]["state"] for alert in captured.alerts}

    assert states == {"critical": "active", "medium": "suppressed"}


def test_alertmanager_does_not_resolve_it_while_it_may_be_open(captured: Captured) -> None:
    ends = [datetime.fromisoformat(alert["endsAt"]) for alert in captured.alerts]

    assert min(ends) > datetime.now(UTC) + timedelta(hours=23)


def test_both_steps_have_one_key_in_pagerduty_and_the_title_is_the_sentence(captured: Captured) -> None:
    events = captured.receivers.bodies["am-pagerduty"]

    assert len({event["dedup_key"] for event in events}) == 1
    assert [event["payload"]["severity"] for event in events] == ["warning", "critical"]
    assert [event["payload"]["summary"] for event in events] == [step["output"] for step in captured.steps]
    assert events[-1]["client_url"] == captured.steps[-1]["output_fields"]["incident.url"]


def test_both_steps_have_one_alias_in_opsgenie_and_place_and_case_fit_its_message(captured: Captured) -> None:
    made = [body for body in captured.receivers.bodies["am-opsgenie"] if "alias" in body]

    assert len({body["alias"] for body in made}) == 1
    assert made[-1]["message"] == "Critical Full Web Application Compromise: shop/web-7d9f8b6c5-x2x4q"
    assert [body["priority"] for body in made] == ["P3", "P1"]


def test_slack_gets_the_case_the_sentence_and_the_link(captured: Captured) -> None:
    last = captured.receivers.bodies["slack"][-1]
    step = captured.steps[-1]
    (through_alertmanager,) = captured.receivers.bodies["am-slack"][-1]["attachments"]

    url = step["output_fields"]["incident.url"]
    assert last["text"] == f"*Critical: {step['rule']}* <{url}|Open the incident>"
    assert last["attachments"][0]["text"] == step["output"]
    assert last["attachments"][0].get("fields") is None
    assert through_alertmanager["title_link"] == url
    assert through_alertmanager["text"] == step["output_fields"]["incident.summary"]


def queries() -> list[str]:
    return [line for line in PAGE.read_text().splitlines() if line.startswith("jq ")]


def test_the_queries_of_the_page_print_the_incidents_and_their_last_steps(captured: Captured, tmp_path: Path) -> None:
    needs("jq")
    raw: dict[str, Any] = {"rule": "Stock", "output": "raw", "output_fields": {"proc.name": "sh"}}
    (tmp_path / "incidents.jsonl").write_text("\n".join(map(json.dumps, [*captured.steps, raw])))
    outputs = [step["output"] for step in captured.steps]

    each, last = (
        subprocess.run(["bash", "-c", query], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for query in queries()
    )

    assert each.splitlines() == outputs
    assert json.loads(last) == outputs[-1]
