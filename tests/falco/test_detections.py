"""The shipped rules over the detection tables: each fires on its positives and leaves its look-alikes alone."""

from functools import cache

import pytest
from falco.ruleset import GROUPS, Ruleset
from falco.tables import Case, Detection, cases, detections


@cache
def shipped() -> Ruleset:
    return Ruleset()


@pytest.mark.parametrize("case", [c for c in cases() if c.fires], ids=lambda case: case.name)
def test_rule_fires_on(case: Case) -> None:
    assert case.rule in shipped().fired(case.event()), case.chain


@pytest.mark.parametrize("case", [c for c in cases() if not c.fires], ids=lambda case: case.name)
def test_rule_leaves_alone(case: Case) -> None:
    assert case.rule not in shipped().fired(case.event()), case.chain


@pytest.mark.parametrize("detection", detections(), ids=lambda detection: detection.rule)
def test_detection_has_two_positives_and_two_look_alikes(detection: Detection) -> None:
    assert len(detection.chains(fires=True)) >= 2
    assert len(detection.chains(fires=False)) >= 2


def test_every_rule_has_its_entry_in_the_order_of_the_file_numbers() -> None:
    entries = detections()
    assert {entry.rule for entry in entries} == set(shipped().rules)
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))


def test_the_groups_are_those_of_the_design() -> None:
    numbers = {entry.rule: entry.number for entry in detections()}
    found = {numbers[rule]: set(shipped().groups(rule)) for rule in shipped().rules}
    for group, first, last in (
        ("web_shell", 1, 9),
        ("shell_technique", 10, 16),
        ("network", 17, 20),
        ("credential", 21, 31),
    ):
        assert all(group in found[number] for number in range(first, last + 1))
    assert found[6] == {"web_shell", "shell_technique"}
    assert found[32] == {"interactive"}
    assert found[33] == {"lineage"}
    assert set(GROUPS.values()) == set().union(*found.values())
