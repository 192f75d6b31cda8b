"""Stock Falco rules give way to ours, event by event, whatever other containers do."""

from itertools import permutations

import pytest
from conftest import DATA, Clock, Play, cases, fed, spec
from hypothesis import given
from hypothesis import strategies as st
from support.rules import RULES
from support.rules import WEB_RCE as RULE

from sidecar.alerts.classify import Verdict
from sidecar.alerts.decode import envelope
from sidecar.alerts.stock_alerts import MAX_HELD, StockAlerts
from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.rules.rule import CorrelationRule
from sidecar.rules.spec import AlertSpec
from sidecar.yamlfile.typed import Duration

SHELL = "nginx > sh"
CURL = "nginx > sh > curl"
SHELL_RULE = "Run shell untrusted"
NETWORK_RULE = "Launch Suspicious Network Tool in Container"
FILE_RULE = "Read sensitive file untrusted"


@pytest.mark.parametrize("name", ["alone", "after_overlap"])
def test_what_another_container_did_hides_no_stock_evidence(name: str, pipeline: Pipeline) -> None:
    lines = (DATA / "field_cases" / f"s01_overlap_hides_stock_evidence_{name}.jsonl").read_bytes().splitlines()

    assert cases(fed(pipeline, lines)) == [("medium", "Web Shell with Credential Theft")]


@pytest.mark.parametrize("order", [*permutations(range(4))])
def test_an_event_counts_once_in_whatever_order_its_alerts_come(
    order: tuple[int, ...], pipeline: Pipeline, rule: CorrelationRule
) -> None:
    shell = [*alerts(rule, [spec(SHELL, "web_shell")])]
    same = [
        spec(CURL, "network", at="1s"),
        spec(CURL, rule=NETWORK_RULE, at="1s"),
        spec(CURL, "credential", at="1s"),
        spec(CURL, rule=FILE_RULE, at="1s"),
    ]
    (note,) = fed(pipeline, [*shell, *alerts(rule, [same[at] for at in order])])

    assert (note.severity, note.count, set(note.rules)) == (
        "critical",
        3,
        {"web_shell by tag", "network by tag", "credential by tag"},
    )


def test_a_stock_alert_counts_if_ours_are_about_other_groups(play: Play) -> None:
    notes = play(
        spec(SHELL, rule=SHELL_RULE),
        spec(SHELL, "web_shell"),
        spec(CURL, rule=NETWORK_RULE, at="1s"),
        spec("nginx > sh > grep", "shell_technique", at="2s"),
        spec("nginx > sh > grep", rule="Search Private Keys or Passwords", at="2s"),
    )

    assert cases(notes)[-1] == ("critical", "Full Web Application Compromise")


def test_a_stock_alert_does_not_count_if_ours_declined_one_of_its_groups() -> None:
    stock = StockAlerts()
    alert = envelope(next(alerts(RULE, [spec(SHELL, rule=SHELL_RULE)]))).alert()
    event = alert.host, alert.time, alert.fields.pid
    stock.hold(event, alert, Verdict(fallback_groups=((0, 0b101),), relevant=True))
    stock.decide(event, [(0, 0b100)])

    assert stock.release_unless(()) == [(alert, ((0, 0),))]


def test_a_stock_alert_waits_for_its_event_and_no_longer(pipeline: Pipeline, rule: CorrelationRule) -> None:
    (stock,) = alerts(rule, [spec(SHELL, rule=SHELL_RULE)])
    ordinary = stock.replace(SHELL_RULE.encode(), b"Any other rule").replace(b"2026-", b"2027-")
    pipeline.process_json(ordinary)
    pipeline.process_json(stock)
    assert (pipeline.is_waiting, len(pipeline.containers)) == (True, 0)

    pipeline.process_json(ordinary)

    assert (pipeline.is_waiting, len(pipeline.containers)) == (False, 1)


def test_the_alerts_that_wait_are_bounded(pipeline: Pipeline, rule: CorrelationRule) -> None:
    (stock,) = alerts(rule, [spec(SHELL, rule=SHELL_RULE)])
    for number in range(3 * MAX_HELD):
        pipeline.process_json(stock.replace(b'"proc.cmdline":"sh', b'"proc.cmdline":"sh %d' % number))

    assert len(pipeline._stock.held) <= MAX_HELD


@st.composite
def streams(draw: st.DrawFn) -> list[AlertSpec]:
    """Up to eight events in one container, each reported by stock rules, by ours, or by both."""
    events = {
        SHELL: [{"detect": ["web_shell"]}, {"rule": SHELL_RULE}],
        CURL: [{"detect": ["network"]}, {"rule": NETWORK_RULE}],
        "nginx > sh > cat": [{"detect": ["credential"]}, {"rule": FILE_RULE}],
    }
    stream = []
    for number in range(draw(st.integers(1, 8))):
        process = draw(st.sampled_from([*events]))
        at = Duration(draw(st.integers(0, 600)) * 10**9 + number)
        told_by = draw(st.permutations(events[process]))[: draw(st.integers(1, 2))]
        stream += [AlertSpec(process=process, at=at, **each) for each in told_by]  # type: ignore[arg-type]
    return stream


def finals(bodies: list[bytes]) -> set[tuple[str, str]]:
    """Severity and incident of the strongest case of each incident in the container of `streams`."""
    notes = fed(Pipeline(RULES, Clock()), bodies)
    return {*{note.incident: note.severity for note in notes if note.where.container_name == "app"}.items()}


@given(streams(), st.randoms(use_true_random=False))
def test_order_changes_no_case(stream: list[AlertSpec], random: object) -> None:
    bodies = [*alerts(RULE, stream)]
    shuffled = list(bodies)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert finals(bodies) == finals(shuffled)


@given(streams(), streams(), st.randoms(use_true_random=False))
def test_alerts_of_another_container_change_no_case(
    stream: list[AlertSpec], others: list[AlertSpec], random: object
) -> None:
    bodies = [*alerts(RULE, stream)]
    for each in others:
        each.container = "other"
    places = sorted(random.choices(range(len(bodies) + 1), k=len(others)))  # type: ignore[attr-defined]
    mixed = list(bodies)
    for at, body in zip(reversed(places), alerts(RULE, others), strict=False):
        mixed.insert(at, body)

    assert finals(mixed) == finals(bodies)
