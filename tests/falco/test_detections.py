"""The shipped rules over the detection tables: each fires on its positives and leaves its look-alikes alone."""

import pytest
from falco.ruleset import GROUPS, shipped
from falco.tables import Detection, detections

BY_RULE = pytest.mark.parametrize("detection", detections(), ids=lambda detection: detection.rule)


@BY_RULE
def test_rule_fires_on_each_of_its_chains(detection: Detection) -> None:
    chains = detection.chains(fires=True)

    assert len(chains) >= 2
    assert [case for case in chains if case.rule not in shipped().fired(case.event())] == []


@BY_RULE
def test_rule_leaves_its_look_alikes_alone(detection: Detection) -> None:
    chains = detection.chains(fires=False)

    assert len(chains) >= 2
    assert [case for case in chains if case.rule in shipped().fired(case.event())] == []


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
