"""Which alerts count, and for what."""

from conftest import Play, cases, spec

from sidecar.alerts.classify import MAX_ENTRIES, Classifier
from sidecar.alerts.decode import envelope
from sidecar.rules.rule import CorrelationRule

SHELL = "nginx > sh"
CURL = "nginx > sh > curl"


def test_an_alert_counts_by_its_tag_whatever_its_name(rule: CorrelationRule) -> None:
    verdict = Classifier([rule]).classify("Any name", ("webrce_network", "webrce_credential"))

    assert (verdict.groups, verdict.relevant, verdict.is_own_detection) == (((0, 0b1100),), True, True)


def test_a_stock_rule_counts_by_its_name_and_is_not_our_own_detection(rule: CorrelationRule) -> None:
    verdict = Classifier([rule]).classify("Run shell untrusted", ("maturity_stable",))

    assert (verdict.groups, verdict.fallback_groups, verdict.relevant, verdict.is_own_detection) == (
        (),
        ((0, 1),),
        True,
        False,
    )


def test_a_lineage_tag_is_relevant_without_groups(rules: list[CorrelationRule]) -> None:
    verdict = Classifier(rules).classify("Detached", ("webrce_lineage",))

    assert (verdict.groups, verdict.relevant, verdict.is_own_detection) == ((), True, True)


def test_anything_else_is_nobodys_evidence(rules: list[CorrelationRule]) -> None:
    assert not Classifier(rules).classify("Some rule", ("container",)).relevant


def test_a_flood_of_names_is_not_remembered(rules: list[CorrelationRule]) -> None:
    classify = Classifier(rules)
    for number in range(2 * MAX_ENTRIES):
        classify(envelope(f'{{"rule":"rule {number}"}}'.encode()))

    assert len(classify._verdicts) <= MAX_ENTRIES


def test_a_megabyte_of_blanks_between_tags_is_not_remembered(rules: list[CorrelationRule]) -> None:
    classify = Classifier(rules)
    tags = b'["webrce_network"' + b" " * 1_000_000 + b"]"

    assert classify(envelope(b'{"rule":"Any","tags":' + tags + b"}")).relevant
    assert all(len(str(label)) < 100 for label in classify._verdicts)


def test_stock_rules_alone_give_the_incident(play: Play) -> None:
    notes = play(
        spec(SHELL, rule="Run shell untrusted"),
        spec(CURL, rule="Launch Suspicious Network Tool in Container", at="1s"),
    )

    assert cases(notes) == [("medium", "Web Shell with Network Activity")]


def test_stock_rules_count_where_they_shadow_ours(play: Play) -> None:
    notes = play(
        spec(SHELL, "web_shell"),
        spec(CURL, rule="Launch Suspicious Network Tool in Container", at="1s"),
    )

    assert cases(notes) == [("medium", "Web Shell with Network Activity")]
