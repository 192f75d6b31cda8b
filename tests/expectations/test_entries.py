"""What an entry covers: its behaviour at its place, until its end, and never what was dropped."""

from collections.abc import Sequence
from typing import Any

import pytest
from conftest import spec

from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.expectations.entries import Expectations
from sidecar.expectations.loading import compiled
from sidecar.expectations.spec import ExpectationFile
from sidecar.model import Notification
from sidecar.rules.rule import CorrelationRule
from sidecar.rules.spec import AlertSpec
from sidecar.yamlfile.typed import build

ENTRY: dict[str, Any] = {"id": "backup", "why": "it backs up", "commands": ["sh /backup.sh"], "service": ["nginx"]}
SHELL: dict[str, str | int] = {"proc.exepath": "/usr/bin/dash", "proc.cmdline": "sh /backup.sh"}
CURL: dict[str, str | int] = {"proc.exepath": "/usr/bin/curl", "proc.cmdline": "curl http://backup.example/"}


def expectations(*entries: dict[str, Any], **place: Any) -> Expectations:
    file = {"product": "P", "place": place or {"images": ["*/app"]}, "entries": list(entries)}
    return Expectations(compiled(build(ExpectationFile, file, "f"), "f"))


def told(rule: CorrelationRule, expected: Expectations | None, specs: Sequence[AlertSpec]) -> list[Notification]:
    pipeline = Pipeline([rule], timer=lambda: 0.0, expectations=expected)
    messages = [
        message for body in alerts(rule, specs) for message in pipeline.process_json(body)[1]
    ] + pipeline.flush()
    return [message for message in messages if isinstance(message, Notification)]


@pytest.fixture
def backup() -> list[AlertSpec]:
    return [
        spec("nginx > sh", "web_shell", fields=SHELL),
        spec("nginx > sh > curl", "network", at="1s", fields=CURL),
    ]


def test_what_is_expected_counts_for_no_group(rule: CorrelationRule, backup: list[AlertSpec]) -> None:
    assert told(rule, None, backup)
    assert not told(rule, expectations(ENTRY), backup)


@pytest.mark.parametrize(
    "place", [{"images": ["*/other"]}, {"namespaces": ["bank"]}, {"pods": ["b-*"]}, {"containers": ["x"]}]
)
def test_an_entry_holds_at_its_place_alone(
    rule: CorrelationRule, backup: list[AlertSpec], place: dict[str, Any]
) -> None:
    assert told(rule, expectations(ENTRY, **place), backup)


def test_an_entry_holds_below_its_service_alone(rule: CorrelationRule, backup: list[AlertSpec]) -> None:
    assert told(rule, expectations(ENTRY | {"service": ["apache2"]}), backup)


def test_an_entry_covers_the_groups_alone_that_it_names(rule: CorrelationRule, backup: list[AlertSpec]) -> None:
    assert told(rule, expectations(ENTRY | {"groups": ["network"]}), backup)
    assert not told(rule, expectations(ENTRY | {"groups": ["web_shell"]}), backup)


def test_an_entry_ends_after_its_last_day(rule: CorrelationRule, backup: list[AlertSpec]) -> None:
    assert told(rule, expectations(ENTRY | {"until": "2020-01-01"}), backup)
    assert not told(rule, expectations(ENTRY | {"until": "2100-01-01"}), backup)


def test_a_dropped_program_is_never_expected(rule: CorrelationRule) -> None:
    dropped = SHELL | {"proc.exepath": "/tmp/sh", "proc.is_exe_upper_layer": "true"}
    story = [
        spec("nginx > sh", "web_shell", fields=dropped),
        spec("nginx > sh > curl", "network", at="1s", fields=CURL),
    ]

    assert told(rule, expectations(ENTRY), story)


def test_an_entry_about_a_start_does_not_cover_what_the_program_opens(
    rule: CorrelationRule, backup: list[AlertSpec]
) -> None:
    opens = SHELL | {"evt.type": "openat", "fd.name": "/etc/shadow"}
    story = [
        spec("nginx > sh#1", "web_shell", fields=CURL | {"proc.exepath": "/usr/bin/dash"}),
        spec("nginx > sh#1 > sh", "credential", at="1s", fields=opens),
    ]

    assert told(rule, expectations(ENTRY), story)


def test_what_is_expected_is_shown_on_the_incident_of_its_context(
    rule: CorrelationRule, backup: list[AlertSpec]
) -> None:
    attack = [
        spec(
            "nginx > sh#1", "web_shell", at="2s", fields={"proc.exepath": "/usr/bin/dash", "proc.cmdline": "sh -c id"}
        ),
        spec("nginx > sh#1 > sh", "web_shell", at="3s", fields=SHELL),
        spec("nginx > sh#1 > wget", "network", at="4s"),
    ]
    (note,) = told(rule, expectations(ENTRY), attack)

    assert [detection.expected for detection, groups in note.timeline if not groups] == ["backup"]


def test_the_matches_of_each_entry_are_counted(rule: CorrelationRule, backup: list[AlertSpec]) -> None:
    pipeline = Pipeline([rule], timer=lambda: 0.0, expectations=expectations(ENTRY))
    for body in alerts(rule, backup):
        pipeline.process_json(body)

    assert dict(pipeline.expected) == {"backup": 1}
