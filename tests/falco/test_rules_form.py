"""The rules file keeps the conventions of Falco's rules, loads in Falco 0.40 to 0.44, and says what correlation needs."""

import re
from pathlib import Path

import pytest
from falco.condition import unquoted
from falco.ruleset import CHAINS, RULES, Ruleset, chain, shipped

from sidecar.model import ASKED

LONGEST_VALUE = 255
"""libsinsp refuses a longer value in a condition."""

NEEDED = [name for name in ASKED if not name.startswith("fd.") and name != "evt.arg.addr"]
TOO_NEW = re.compile(r"\b(evt\.dir|oneof|anyof|allof|basename\(proc|val\(proc|concat\(|getopt\(|proc\.aargs)")
MATURITY = {"maturity_stable", "maturity_incubating", "maturity_sandbox"}
VALUES = re.compile(r'"(?:\\.|[^"\\])*"')


FILES = (RULES, *CHAINS)


def rulesets() -> dict[Path, Ruleset]:
    return {RULES: shipped(), **{path: chain(path) for path in CHAINS}}


def prefix(path: Path) -> str:
    """What macros, lists and tags of a file begin with: the chain's word."""
    return "webrce_" if path == RULES else f"{path.name.removesuffix('_rules.yaml').rpartition('_')[2]}_"


NAMED = [(path, name) for path, rules in rulesets().items() for name in rules.rules]


def test_output_says_what_correlation_needs() -> None:
    for path, name in NAMED:
        output = rulesets()[path].rules[name]["output"]
        missing = [field for field in NEEDED if not re.search(rf"%{re.escape(field)}(?![\w.])", output)]
        assert missing == [], name


def test_output_of_network_and_file_rules_names_the_file_or_connection() -> None:
    for path, name in NAMED:
        rule = rulesets()[path].rules[name]
        if f"{prefix(path)}open" in rule["condition"] or f"{prefix(path)}connect" in rule["condition"]:
            assert "%fd.name" in rule["output"], name
        if f"{prefix(path)}connect" in rule["condition"]:
            assert "%fd.sip" in rule["output"], name
            assert "%evt.arg.addr" in rule["output"], name


def test_no_rule_looks_at_fields_that_show_the_near_end_of_a_connection() -> None:
    lines = [line for path in FILES for line in path.read_text().splitlines()]
    written = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    assert re.findall(r"fd\.(?:rip|rport|rnet|lip|lport)\b", written) == []


def test_tags_begin_with_maturity_and_name_place_tactic_technique_and_group() -> None:
    for path, name in NAMED:
        tags = rulesets()[path].rules[name]["tags"]
        assert tags[0] in MATURITY, name
        assert {"host", "container"} & set(tags), name
        assert any(tag.startswith("mitre_") for tag in tags), name
        assert any(re.fullmatch(r"T\d{4}(\.\d{3})?", tag) for tag in tags), name
        assert any(tag.startswith(prefix(path)) for tag in tags), name
        assert all(re.fullmatch(r"[A-Za-z0-9_.]+", tag) for tag in tags), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_rule_has_a_tuning_macro_of_its_own_that_is_never_true(path: Path) -> None:
    rules = rulesets()[path]
    conditions = {item["macro"]: item["condition"] for item in rules.items if "macro" in item}
    macros = [rules.tuning_macro(name) for name in rules.rules]

    assert len(set(macros)) == len(rules.rules)
    assert {conditions[macro] for macro in macros} == {f"({prefix(path)}never_true)"}


def test_rule_is_a_quiet_building_block_with_one_sentence_that_says_how_to_tune() -> None:
    for path, name in NAMED:
        rule = rulesets()[path].rules[name]
        assert rule["priority"] in ("NOTICE", "INFO"), name
        assert rule["desc"].strip().endswith("."), name
        assert rulesets()[path].tuning_macro(name) in rule["desc"], name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_macro_and_list_has_our_prefix(path: Path) -> None:
    names = [item.get("macro") or item.get("list") for item in rulesets()[path].items]
    assert [name for name in names if name and not name.startswith(prefix(path))] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_is_newer_than_falco_0_40_or_gone_in_0_44(path: Path) -> None:
    written = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    assert TOO_NEW.findall(written) == []
    assert rulesets()[path].items[0] == {"required_engine_version": "0.46.0"}
    assert not [item for item in rulesets()[path].items if "required_plugin_versions" in item]


def test_no_value_is_longer_than_the_engine_takes() -> None:
    conditions = [each["condition"] for rules in rulesets().values() for each in rules.items if "condition" in each]
    values = [unquoted(value) for condition in conditions for value in VALUES.findall(condition)]
    assert [value for value in values if len(value) > LONGEST_VALUE] == []


def test_web_shell_rules_come_first_so_that_their_alerts_do() -> None:
    groups = [set(shipped().groups(name)) for name in shipped().rules]
    first_other = next(index for index, group in enumerate(groups) if "web_shell" not in group)
    assert all("web_shell" not in group for group in groups[first_other:])
