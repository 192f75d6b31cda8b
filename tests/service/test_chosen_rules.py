"""The setting `rules` chooses among the correlation rules that ship."""

from pathlib import Path

import pytest
from conftest import DATA

from sidecar.errors import ConfigError
from sidecar.rules.loading import SHIPPED
from sidecar.service.worker import rules_of


def chosen(*paths: str | Path) -> list[str]:
    return [rule.id for rule in rules_of([Path(path) for path in paths])]


def test_without_a_choice_all_that_ship_are_in_force() -> None:
    assert chosen() == chosen("shipped") == ["crypto-mining", "web-application-rce"]


def test_one_that_ships_can_be_chosen_beside_rules_of_ones_own() -> None:
    assert chosen("shipped/web-application-rce", DATA / "scan.yaml") == ["web-application-rce", "scan"]


def test_one_of_ones_own_stands_in_for_the_one_that_ships_under_its_id() -> None:
    rules = rules_of([Path("shipped"), DATA / "crypto_mining.yaml"])

    assert [(rule.id, Path(rule.where).parent) for rule in rules] == [
        ("web-application-rce", SHIPPED / "correlation"),
        ("crypto-mining", DATA),
    ]


def test_one_that_does_not_ship_is_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match=r"no rule 'crypto-minig' ships, did you mean 'crypto-mining'\? \(known: "):
        chosen("shipped/crypto-minig")
