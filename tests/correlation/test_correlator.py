"""Windows, steps and the life of an incident.

Covers: `correlation.pipeline`.
"""

import pytest
from conftest import Clock, Play, cases, fed, spec
from correlation.test_flood import flood

from sidecar.cli.testing.stories import alerts
from sidecar.correlation.correlator import MAX_PAST_INCIDENTS, MAX_PAST_INCIDENTS_OF_A_PLACE
from sidecar.correlation.pipeline import Pipeline
from sidecar.model import Notification
from sidecar.rules.rule import CorrelationRule

SHELL = spec("nginx > sh", "web_shell")
NETWORK = ("medium", "Web Shell with Network Activity")
FULL = ("critical", "Full Web Application Compromise")


def curl(at: str, number: int = 1) -> object:
    return spec(f"nginx > sh > curl#{number}", "network", at=at)


@pytest.mark.parametrize(
    ("after_ns", "notified"), [(15 * 60 * 10**9 - 1, True), (15 * 60 * 10**9, True), (15 * 60 * 10**9 + 1, False)]
)
def test_the_window_ends_to_the_nanosecond(
    pipeline: Pipeline, rule: CorrelationRule, after_ns: int, notified: bool
) -> None:
    late = spec("nginx > sh > curl", "network", at="0s")
    late.at = type(late.at)(after_ns)
    for body in alerts(rule, [SHELL, late]):
        pipeline.process_json(body)

    assert notified == bool(pipeline.flush())


def test_a_web_shell_stays_fresh_while_its_lineage_is_alive(play: Play) -> None:
    story = [spec(f"nginx > sh > ls#{n}", "interactive", at=f"{n * 14}m") for n in range(1, 6)]

    assert cases(play(SHELL, *story, curl("80m"))) == [("high", "Web Shell with Network Activity (interactive)")]


def test_repeats_are_counted_and_silent(play: Play) -> None:
    notes = play(SHELL, *(curl(f"{second}s", second) for second in range(1, 50)))

    assert cases(notes) == [NETWORK]


def test_a_stronger_case_is_the_next_step_of_the_same_incident(play: Play) -> None:
    first, second = play(SHELL, curl("1s"), spec("nginx > sh > cat", "credential", at="9m"))

    assert cases([first, second]) == [NETWORK, FULL]
    assert (first.incident, 1, "") == (second.incident, first.step, first.came_from)
    assert (second.step, second.came_from) == (2, "medium")
    assert second.groups == ("web_shell", "network", "credential")


def test_a_better_row_of_equal_severity_is_taken_over_silently(play: Play) -> None:
    notes = play(SHELL, spec("nginx > sh > python3", "shell_technique", at="1s"), curl("2s"))

    assert cases(notes) == [("medium", "Shell Execution Detected")]


def test_weaker_evidence_later_does_not_lower_an_incident(play: Play) -> None:
    notes = play(
        SHELL,
        curl("1s"),
        spec("nginx > sh > cat", "credential", at="2s"),
        spec("nginx > sh#2", "web_shell", at="30m"),
        curl("31m", 2),
    )

    assert cases(notes)[-1] == FULL
    assert len({note.incident for note in notes}) == 1


@pytest.mark.parametrize(("quiet", "incidents"), [("50m", 1), ("62m", 2)])
def test_an_incident_closes_an_hour_after_its_last_evidence(play: Play, quiet: str, incidents: int) -> None:
    minutes = int(quiet[:-1])
    notes = play(SHELL, curl("1s"), spec("nginx > sh#2", "web_shell", at=f"{minutes}m"), curl(f"{minutes + 1}m", 2))

    assert incidents == len({note.incident for note in notes})


def test_evidence_after_the_close_opens_a_new_incident_that_names_the_old_one(play: Play) -> None:
    first, second = play(SHELL, curl("1s"), spec("nginx > sh#2", "web_shell", at="3h"), curl("181m", 2))

    assert (first.incident, 1) == (second.previous, second.step)
    assert first.incident != second.incident


def test_an_incident_closes_24_hours_after_its_first_evidence(play: Play) -> None:
    story = [curl(f"{minutes}m", minutes) for minutes in range(10, 25 * 60, 10)]
    notes = play(SHELL, *story)

    assert len({note.incident for note in notes}) == 2


def test_alerts_of_one_event_speak_once(play: Play) -> None:
    story = spec("php-fpm > curl", "web_shell", "network", "credential")

    assert cases(play(story)) == [FULL]


def test_a_notification_waits_only_for_its_own_event(pipeline: Pipeline, rule: CorrelationRule) -> None:
    story = [spec("nginx > sh > curl", "network", at="1s"), spec("tini > other", "credential", at="2s", container="x")]
    bodies = list(alerts(rule, [SHELL, *story]))
    due = [cases(pipeline.process_json(body)[1]) for body in bodies]

    assert due == [[], [], [NETWORK]]


def test_an_alert_that_is_nobodys_evidence_ends_the_wait_too(pipeline: Pipeline, rule: CorrelationRule) -> None:
    for body in alerts(rule, [SHELL, spec("nginx > sh > curl", "network", at="1s")]):
        pipeline.process_json(body)
    other = b'{"rule":"x","time":"2026-11-24T03:03:10Z","hostname":"node-1","priority":"Debug","output_fields":{"a":1}}'

    assert cases(pipeline.process_json(other)[1]) == [NETWORK]


def test_the_same_stream_gives_the_same_incident_id_in_any_order(
    rules: list[CorrelationRule], rule: CorrelationRule
) -> None:
    bodies = list(
        alerts(
            rule, [SHELL, spec("nginx > sh > cat", "credential", at="1s"), spec("nginx > sh > nc", "network", at="2s")]
        )
    )
    ids = set()
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        pipeline = Pipeline(rules, lambda: 0.0)
        notes = fed(pipeline, [bodies[index] for index in order])
        ids |= {note.incident for note in notes}

    assert len(ids) == 1


def test_names_that_falco_learns_late_are_filled_in(play: Play) -> None:
    blank = {"container.name": "", "k8s.pod.name": "", "k8s.ns.name": "", "container.image.repository": ""}
    (note,) = play(spec("nginx > sh", "web_shell", fields=blank), curl("1s"))

    assert (note.where.namespace, note.where.pod, note.where.container_name) == ("shop", "app-7d9f", "app")


def test_evidence_that_is_told_to_nobody_is_news_once(pipeline: Pipeline, rule: CorrelationRule) -> None:
    pipeline.correlator.updated = {}
    first = [spec("tini > nginx > sh", "web_shell"), spec("tini > nginx > sh > nc", "network", at="1s")]
    (note,) = fed(pipeline, alerts(rule, first))
    pipeline.correlator.updated_incidents(10)
    fed(pipeline, alerts(rule, [spec("tini > nginx > sh > nc#2", "network", at="2s")]))
    (news,) = pipeline.correlator.updated_incidents(10)

    assert (news.incident, news.severity, news.count, news.step) == (note.incident, "medium", 3, 1)
    assert pipeline.correlator.updated_incidents(10) == []


def test_news_are_given_in_batches(pipeline: Pipeline, rule: CorrelationRule) -> None:
    pipeline.correlator.updated = {}
    for name in "abc":
        shell = spec("tini > nginx > sh", "web_shell", container=name)
        ncs = [spec(f"tini > nginx > sh > nc#{n}", "network", at=f"{n}s", container=name) for n in (1, 2)]
        fed(pipeline, alerts(rule, [shell, *ncs]))

    last = [*pipeline.correlator.updated][-1]

    assert [note.incident for note in pipeline.correlator.updated_incidents(1, last[:6])] == [last]
    assert [len(pipeline.correlator.updated_incidents(1)) for _ in range(3)] == [1, 1, 0]


def test_in_a_replay_nobody_asks_for_news_and_none_are_kept(pipeline: Pipeline, rule: CorrelationRule) -> None:
    ncs = [spec(f"tini > nginx > sh > nc#{n}", "network", at=f"{n}s") for n in (1, 2)]
    fed(pipeline, alerts(rule, [spec("tini > nginx > sh", "web_shell"), *ncs]))

    assert pipeline.correlator.updated_incidents(10) == []


def attacks_of_a_day(pipeline: Pipeline, rule: CorrelationRule, clock: Clock, between: int = 0) -> list[Notification]:
    """The same attack at the same service every four hours, and so many incidents of another container in between."""
    story = [
        (hour, [spec("nginx > sh", "web_shell", at=f"{hour}h"), spec("nginx > sh > curl", "network", at=f"{hour}h")])
        for hour in (0, 4, 8)
    ]
    whole = [step for _, steps in story for step in steps]
    notes = []
    for hour, steps in story:
        clock.now = hour * 3600.0
        notes += fed(pipeline, alerts(rule, steps, whole))
        for number in range(between):
            body = flood(number)
            fed(pipeline, [body, body.replace(b"web_shell", b"network")])
    return notes


def test_an_attack_hours_later_on_the_same_day_is_another_incident_that_names_the_one_before(
    pipeline: Pipeline, rule: CorrelationRule, clock: Clock
) -> None:
    first, second, third = attacks_of_a_day(pipeline, rule, clock)

    assert len({first.incident, second.incident, third.incident}) == 3
    assert (first.previous, second.previous, third.previous) == ("", first.incident, second.incident)
    assert second.first > first.last


def test_played_again_after_a_restart_they_are_the_same_incidents(
    pipeline: Pipeline, rule: CorrelationRule, rules: list[CorrelationRule], clock: Clock
) -> None:
    again = attacks_of_a_day(Pipeline(rules, lambda: 0.0), rule, Clock())

    assert [note.incident for note in again] == [note.incident for note in attacks_of_a_day(pipeline, rule, clock)]


@pytest.mark.slow
def test_a_flood_of_one_container_changes_no_incident_of_another(
    pipeline: Pipeline, rule: CorrelationRule, rules: list[CorrelationRule], clock: Clock
) -> None:
    alone = attacks_of_a_day(Pipeline(rules, lambda: clock.now), rule, clock)
    beside = attacks_of_a_day(pipeline, rule, clock, between=50)

    assert [note.incident for note in beside] == [note.incident for note in alone]
    assert len(pipeline.correlator.past) == MAX_PAST_INCIDENTS_OF_A_PLACE + 1


@pytest.mark.slow
def test_past_incidents_are_bounded(pipeline: Pipeline) -> None:
    for number in range(MAX_PAST_INCIDENTS + 100):
        body = flood(number, f"{number:012x}")
        fed(pipeline, [body, body.replace(b"web_shell", b"network")])

    assert len(pipeline.correlator.past) == MAX_PAST_INCIDENTS
