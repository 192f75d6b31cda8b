"""Rules that change while the service runs: contexts and open incidents of rules that stay go on."""

from collections.abc import Callable
from copy import deepcopy

import pytest
from conftest import Clock, Play, cases, fed, spec
from support.rules import RULES, WEB_RCE

from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.model import Message
from sidecar.rules.loading import compiled
from sidecar.rules.rule import CorrelationRule
from sidecar.rules.spec import CaseSpec, RuleFile
from sidecar.yamlfile.typed import Duration

SHELL = spec("php-fpm > sh", "web_shell", at="0s")
CURL = spec("php-fpm > sh > curl", "network", at="1s")
TOKEN = spec("php-fpm > sh > cat", "credential", at="2s")


def changed(change: Callable[[RuleFile], object], rule: CorrelationRule = WEB_RCE) -> CorrelationRule:
    written = deepcopy(rule.written)
    change(written)
    return compiled(written, "test")


def reversed_groups(written: RuleFile) -> None:
    written.groups = dict(reversed(written.groups.items()))


def without_cases(*names: str) -> Callable[[RuleFile], object]:
    def change(written: RuleFile) -> None:
        written.cases = [case for case in written.cases if case.name not in names]
        written.tests = []

    return change


def feed(pipeline: Pipeline, *specs: object) -> list[tuple[str, str]]:
    return cases(fed(pipeline, alerts(WEB_RCE, specs)))  # type: ignore[arg-type]


def test_an_open_incident_rises_under_a_rule_whose_groups_are_in_another_order(pipeline: Pipeline) -> None:
    before = feed(pipeline, SHELL, CURL)
    pipeline.use([changed(reversed_groups)])
    after = feed(pipeline, TOKEN)

    assert before == [("medium", "Web Shell with Network Activity")]
    assert after == [("critical", "Full Web Application Compromise")]


def test_the_incident_is_the_same_one_with_the_next_step(pipeline: Pipeline) -> None:
    (first,) = fed(pipeline, alerts(WEB_RCE, [SHELL, CURL]))
    pipeline.use([changed(reversed_groups)])
    (second,) = fed(pipeline, alerts(WEB_RCE, [TOKEN]))

    assert (second.incident, second.step, second.came_from) == (first.incident, 2, "medium")
    assert [groups for _, groups in second.timeline] == [("web_shell",), ("network",), ("credential",)]


def test_partial_evidence_counts_under_the_changed_rule(pipeline: Pipeline) -> None:
    feed(pipeline, SHELL)
    pipeline.use([changed(reversed_groups)])

    assert feed(pipeline, CURL) == [("medium", "Web Shell with Network Activity")]


def test_pending_detections_wait_on_under_the_changed_rule(pipeline: Pipeline) -> None:
    feed(pipeline, CURL, TOKEN)
    pipeline.use([changed(reversed_groups)])

    assert feed(pipeline, SHELL) == [("critical", "Full Web Application Compromise")]


def test_a_case_that_is_gone_gives_way_to_the_one_that_holds(pipeline: Pipeline) -> None:
    feed(pipeline, SHELL, CURL)
    pipeline.use([changed(without_cases("Web Shell with Network Activity"))])

    assert feed(pipeline, TOKEN) == [("critical", "Full Web Application Compromise")]


def test_a_new_case_applies_with_the_next_alert(pipeline: Pipeline) -> None:
    def alone(written: RuleFile) -> None:
        written.cases.append(CaseSpec(name="Web Shell", severity="low", when="web_shell"))

    feed(pipeline, SHELL)
    pipeline.use([changed(alone)])

    assert feed(pipeline, spec("php-fpm > sh#2", "web_shell", at="3s")) == [("low", "Web Shell")]


def test_other_rules_before_it_do_not_matter(pipeline: Pipeline) -> None:
    other = changed(lambda written: setattr(written, "id", "other"))
    feed(pipeline, SHELL, CURL)
    pipeline.use([other, *RULES])
    after = fed(pipeline, alerts(WEB_RCE, [TOKEN]))

    assert [(note.correlation_rule, note.step) for note in after] == [(WEB_RCE.id, 2)]


def test_a_rule_that_is_gone_takes_its_evidence_along(pipeline: Pipeline) -> None:
    other = changed(lambda written: setattr(written, "id", "other"))
    feed(pipeline, SHELL, CURL)
    pipeline.use([other])

    assert [len(container.contexts) for container in pipeline.containers] == [0]
    assert pipeline.containers.budgets["timeline_bytes"].used == 0


def test_a_longer_window_keeps_containers_longer(pipeline: Pipeline, clock: Clock) -> None:
    def long(written: RuleFile) -> None:
        written.window = Duration.parse("10h")

    feed(pipeline, SHELL)
    pipeline.use([changed(long)])
    clock.now += 5 * 3600.0

    later = spec("php-fpm > sh > curl", "network", at="5h")
    assert feed(pipeline, later) == [("medium", "Web Shell with Network Activity")]


def test_what_waits_for_its_event_is_decided_before_the_change(pipeline: Pipeline) -> None:
    for body in alerts(WEB_RCE, [SHELL, CURL]):
        pipeline.process_json(body)
    due: list[Message] = pipeline.use(RULES)

    assert [each.severity for each in due] == ["medium"]


@pytest.mark.parametrize("count", [1, 5])
def test_using_the_same_rules_again_changes_nothing(pipeline: Pipeline, play: Play, count: int) -> None:
    play(SHELL, CURL)
    for _ in range(count):
        pipeline.use(RULES)

    assert cases(play(TOKEN)) == [("critical", "Full Web Application Compromise")]
    assert pipeline.correlator.opened == 1
