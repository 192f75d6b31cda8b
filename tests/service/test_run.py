"""What the first attack needs is compiled before it comes."""

import pytest
from conftest import fed, spec

from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.meaning import tables
from sidecar.rules.rule import CorrelationRule
from sidecar.service.run import warm_up
from sidecar.text.redaction.redactor import Redactor


def test_after_warming_up_an_attack_compiles_no_table(
    rules: list[CorrelationRule], rule: CorrelationRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm_up(rules, Redactor())
    compiled = list[str]()
    pattern = tables._pattern

    def noted(names: list[str]) -> str:
        compiled.append("".join(names))
        return pattern(names)

    monkeypatch.setattr(tables, "_pattern", noted)
    story = [spec("tini > nginx > sh", "web_shell"), spec("tini > nginx > sh > curl", "network", at="1s")]
    notes = fed(Pipeline(rules, lambda: 0.0), alerts(rule, story))

    assert [note.severity for note in notes] == ["medium"]
    assert compiled == []


def test_warming_up_leaves_nothing_in_the_log(rules: list[CorrelationRule], caplog: pytest.LogCaptureFixture) -> None:
    warm_up(rules, Redactor())

    assert caplog.text == ""
