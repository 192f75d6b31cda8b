"""The Falco rules of the other chains over their tables: each fires on its positives and leaves its look-alikes alone."""

from pathlib import Path

import pytest
from e2e import tree
from falco import playing
from falco.ruleset import CHAINS, chain
from falco.tables import Detection, detections
from support import fast_yaml

from sidecar.rules.loading import SHIPPED, load


def table(path: Path) -> Path:
    return Path(__file__).with_name(path.name.replace("_rules", ""))


ENTRIES = [pytest.param(path, each, id=each.rule) for path in CHAINS for each in detections(table(path))]


@pytest.mark.parametrize(("path", "detection"), ENTRIES)
def test_rule_fires_on_each_of_its_chains(path: Path, detection: Detection) -> None:
    chains = detection.chains(fires=True)

    assert len(chains) >= 2
    assert [case.chain for case in chains if case.rule not in chain(path).fired(case.event())] == []


@pytest.mark.parametrize(("path", "detection"), ENTRIES)
def test_rule_leaves_its_look_alikes_alone(path: Path, detection: Detection) -> None:
    chains = detection.chains(fires=False)

    assert len(chains) >= 2
    assert [case.chain for case in chains if case.rule in chain(path).fired(case.event())] == []


@pytest.mark.parametrize("path", CHAINS, ids=lambda path: path.name)
def test_every_rule_has_its_entry_in_the_order_of_the_file(path: Path) -> None:
    assert [entry.rule for entry in detections(table(path))] == list(chain(path).rules)


@pytest.mark.parametrize("path", CHAINS, ids=lambda path: path.name)
def test_every_rule_counts_for_a_group_of_its_chain(path: Path) -> None:
    (rule,) = load([SHIPPED / "correlation" / path.name.replace("_rules", "")])
    tags = {tag for group in rule.written.groups.values() for tag in group.tags}

    assert [name for name, each in chain(path).rules.items() if tags.isdisjoint(each["tags"])] == []
    assert tags <= {tag for each in chain(path).rules.values() for tag in each["tags"]}


@pytest.mark.parametrize("path", CHAINS, ids=lambda path: path.name)
def test_the_page_of_the_chains_names_every_rule_and_case(path: Path) -> None:
    page = (SHIPPED.parent / "docs" / "chains.md").read_text()
    (rule,) = load([SHIPPED / "correlation" / path.name.replace("_rules", "")])

    assert [name for name in chain(path).rules if f"| {name} |" not in page] == []
    assert [case.name for case in rule.cases if f"| {case.name} | {case.severity} |" not in page] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", CHAINS, ids=lambda path: path.name)
def test_everyday_workloads_fire_no_rule_of_another_chain(path: Path) -> None:
    folder = Path(__file__).parents[1] / "data" / "plays"
    plays = [
        play for each in sorted(folder.glob("round_*.yaml")) for play in fast_yaml.load(each.read_text())["workloads"]
    ]
    scenarios = [tree.scenario("everyday", {**play, "watched": False}) for play in plays]
    alerts = {each.name: playing.alerts(each, chain(path)) for each in scenarios}

    assert len(plays) >= 100
    assert {name: shown for name, shown in alerts.items() if shown} == {}
