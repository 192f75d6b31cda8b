"""Correlation rules: what loads, what is refused and how it is reported, and that the engine knows none of them by heart.

Covers: `text.placeholders`, `rules.spec`, `rules.rule`.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA
from support import fast_yaml

from sidecar.cli import json_schema
from sidecar.cli.testing import rule_tests
from sidecar.errors import ConfigError
from sidecar.rules.loading import SHIPPED, compiled, load
from sidecar.rules.rule import CorrelationRule
from sidecar.rules.spec import RuleFile
from sidecar.yamlfile.typed import build, read_yaml

WEB_RCE = SHIPPED / "correlation" / "web_application_rce.yaml"
MINING = DATA / "crypto_mining.yaml"


def changed(path: str, value: object) -> dict[str, Any]:
    """The shipped rule with one value replaced; the path is dotted, numbers are list indices."""
    data: Any = fast_yaml.load(WEB_RCE.read_text())
    inside = data
    *parents, last = path.split(".")
    for parent in parents:
        inside = inside[int(parent) if parent.isdigit() else parent]
    inside[int(last) if last.isdigit() else last] = value
    return data  # type: ignore[no-any-return]


def problems(data: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        compiled(build(RuleFile, data, "rule.yaml"), "rule.yaml")
    return raised.value.problems


def results(*paths: Path) -> list[rule_tests.Result]:
    return list(rule_tests.run(load(paths)))


@pytest.mark.parametrize("result", results(WEB_RCE, MINING), ids=lambda result: result.test.name)
def test_each_test_inside_a_rule_file_passes(result: rule_tests.Result) -> None:
    assert result.expected == result.got


def test_a_second_rule_needs_no_code_and_leaves_the_first_alone() -> None:
    by_rule = {result.rule.id for result in results(WEB_RCE, MINING) if result.passed}

    assert {"web-application-rce", "crypto-mining"} == by_rule


@pytest.mark.parametrize("path", sorted((SHIPPED / "correlation").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_shipped_rule_has_tests_for_every_case_triage_and_a_description(path: Path) -> None:
    (rule,) = load([path])
    tested = {expected.case for test in rule.written.tests for expected in test.expect}

    assert {case.name for case in rule.cases} == tested
    assert rule.written.triage
    assert rule.written.description
    assert any(not test.expect for test in rule.written.tests)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("cases.1.severity", "hihg", "cases[1].severity: expected one of low, medium, high, critical, got 'hihg', did you mean 'high'?"),
        ("cases.0.when", "web_shell and netwrok", "cases[0].when: unknown group 'netwrok', did you mean 'network'? (known: web_shell, shell_technique, network, credential, interactive)"),
        ("cases.0.when", "web_shell and", "cases[0].when: is not a condition such as `a and (b or c)`: it ends too soon"),
        ("cases.0.when", "not network", "cases[0].when: `not` is not allowed: severity must never fall as evidence is added"),
        ("cases", [], "cases: a rule needs at least one case"),
        ("window", "15 min", "window: expected a duration such as 500ms, 5s, 15m, 24h or 7d, got '15 min'"),
        ("anchor.groups", ["webshell"], "anchor.groups: unknown group 'webshell', did you mean 'web_shell'? (known: web_shell, shell_technique, network, credential, interactive)"),
        ("groups.network", {}, "groups.network: has no tags, rules or traits, so nothing can count for it"),
        ("groups.network", {"traits": ["tty"]}, "groups.network.traits[0]: expected one of interactive_shell, dropped_program_connects, names_secret, reads_known_secret, moves_data, connects_as_named, got 'tty' (known: interactive_shell, dropped_program_connects, names_secret, reads_known_secret, moves_data, connects_as_named)"),
        ("tags", ["web-rce"], "tags: 'web-rce' may contain only letters, digits, `_` and `.` (Falco Talon cannot match others)"),
        ("triage.1.pod", "kill {pdi}", "triage[1].pod: unknown placeholder {pdi} (known: container, container_name, first_seconds, first_time, host, namespace, pid, pod, shell_vpids, shells, user, vpid, way_in_time)"),
        ("triage.1.pod", "kill {Shell-VPID}", "triage[1].pod: unknown placeholder {Shell-VPID}, did you mean {shell_vpids}?"),
        ("triage.1.do", "see <!here>", "triage[1].do: 'see <!here>' is empty or contains control or markup characters"),
        ("groups.network.sentences", ["called {remotes}"], "groups.network.sentences[0]: unknown placeholder {remotes}, did you mean {remote}?"),
        ("tests.0.alerts.0.detect", ["w"], "tests[0].alerts[0].detect: unknown group 'w' (known: web_shell, shell_technique, network, credential, interactive)"),
        ("scope", "pod", "scope: expected one of session, container, got 'pod' (known: session, container)"),
        ("anchor", None, "anchor: is missing: `scope: session` needs the groups at whose detections a context is anchored"),
        ("cases.5.when", "web_shell and network and credential", "cases[5]: 'Shell Execution Detected' can never be reached: an earlier case is true whenever it is"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_path_and_the_remedy(path: str, value: object, problem: str) -> None:
    assert [problem] == problems(changed(path, value))


def test_all_mistakes_are_told_at_once() -> None:
    data = changed("cases.1.severity", "hihg")
    data["window"] = 5
    data["grups"] = {}

    assert len(problems(data)) == 3


def test_more_groups_than_the_table_can_hold_are_refused() -> None:
    data = changed("groups", {f"g{number}": {"tags": ["t"]} for number in range(13)})
    data |= {"cases": [{"name": "c", "severity": "low", "when": "g1"}], "anchor": {"groups": ["g1"]}, "tests": []}

    assert problems(data) == ["groups: 13 groups, at most 12 are supported"]


def test_two_rules_with_one_id_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MINING.read_text())
    (tmp_path / "b.yaml").write_text(MINING.read_text())

    with pytest.raises(ConfigError, match="two rule files have the id 'crypto-mining'"):
        load([tmp_path])


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no rule files"):
        load([tmp_path])


def test_problems_of_every_file_are_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("id: x")
    with pytest.raises(ConfigError) as raised:
        load([tmp_path])

    assert {"a.yaml", "b.yaml"} == {Path(line.split(": ")[0]).name for line in raised.value.problems}


def test_severity_never_falls_as_evidence_is_added(rule: CorrelationRule) -> None:
    def rank(mask: int) -> int:
        case = rule.outcomes[mask]
        return rule.cases[case].rank if case >= 0 else 0

    assert all(rank(mask | 1 << bit) >= rank(mask) for mask in range(32) for bit in range(5))


def test_the_published_schema_is_that_of_the_code() -> None:
    published = json.loads((SHIPPED / "correlation-rule.schema.json").read_text())

    assert json_schema.for_kind("rule") == published, (
        "run: falco-correlator schema rule > falco_rules/correlation-rule.schema.json"
    )


def test_container_scope_joins_everything_in_a_container_but_nothing_on_a_host() -> None:
    rule = compiled(build(RuleFile, {**changed("scope", "container"), "id": "wide"}, "f"), "f")
    entered = build(
        RuleFile,
        changed(
            "tests",
            [
                {
                    "name": "an administrator beside a mail",
                    "alerts": [
                        {"detect": ["web_shell"], "process": "php-fpm > sh", "host": host},
                        {"detect": ["network"], "process": f"{outside} > bash > curl", "host": host, "at": "9s"},
                    ],
                    "expect": [],
                }
                for host, outside in ((False, "containerd-shim"), (True, "sshd"))
            ],
        ),
        "f",
    )
    in_container, on_host = (rule_tests.play([rule], rule, test) for test in entered.tests)

    assert in_container == (("medium", "Web Shell with Network Activity"),)
    assert on_host == ()


@pytest.mark.parametrize("path", ["id", "name", "cases.2.name"])
@pytest.mark.parametrize("name", ["", "Web\u202e Shell", "Web\x1b[31m", "Web <!channel>", "Web `x`", "Web\nShell"])
def test_a_name_that_would_steer_its_reader_is_refused(path: str, name: str) -> None:
    (message,) = problems(changed(path, name))

    assert "is empty or contains control or markup characters" in message
    assert message.isprintable()


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("groups.network", "tell", "sentences"),
        ("incident", "quiet", "idle_timeout"),
        ("incident", "longest", "max_duration"),
    ],
)
def test_an_old_key_is_answered_with_its_new_name(path: str, old: str, new: str) -> None:
    data = read_yaml(WEB_RCE)
    section = data
    for name in path.split("."):
        section = section[name]
    section[old] = section.pop(new)

    with pytest.raises(ConfigError) as refused:
        build(RuleFile, data, "rule.yaml")

    assert refused.value.problems == [f"{path}.{old}: renamed to {new}"]


def test_no_tag_of_a_stock_rule_marks_a_rule_as_one_of_ours() -> None:
    alerts = map(json.loads, (DATA / "stock_alerts.jsonl").read_text().splitlines())
    tags = sorted({tag for alert in alerts for tag in alert.get("tags") or ()})
    rule = compiled(build(RuleFile, changed("groups.network.tags", [*tags, "webrce_network"]), "f"), "f")

    assert len(tags) > 20
    assert rule.own_tags.isdisjoint(tags)
    assert "webrce_network" in rule.own_tags
