"""Alerts as other tools hand them on: each file of `tests/data/shapes` is one that users brought."""

from collections import Counter

import pytest
from conftest import DATA

from sidecar.alerts import framing
from sidecar.correlation.pipeline import Pipeline

EXPECTED: dict[str, tuple[dict[str, int], int]] = {
    "j_cloudtrail_mixed": ({}, 0),
    "j_cri_log_prefix": ({}, 1),
    "j_docker_json_log": ({}, 1),
    "j_journald_prefix": ({}, 1),
    "j_k8saudit_null_fields": ({"no_output_fields": 1}, 0),
    "j_pid_float": ({"bad_field": 1}, 1),
    "j_pretty_printed": ({}, 1),
    "j_sidekick_webhook_uuid": ({"via_falcosidekick": 1}, 1),
    "j_utf8_bad_cmdline": ({"bad_utf8": 1}, 1),
}
"""What is counted of each, and how many detections it is."""


@pytest.mark.parametrize("name", EXPECTED)
def test_an_alert_in_the_shape_of_another_tool_is_taken_for_what_it_is(pipeline: Pipeline, name: str) -> None:
    reasons, detections = EXPECTED[name]
    for body in framing.alerts((DATA / "shapes" / f"{name}.json").read_bytes().splitlines(keepends=True)):
        pipeline.process_json(body)

    assert (pipeline.received, pipeline.reasons, pipeline.detections) == (1, Counter(reasons), detections)


def test_every_shape_has_its_expectation() -> None:
    assert {file.stem for file in (DATA / "shapes").glob("*.json")} == set(EXPECTED)
