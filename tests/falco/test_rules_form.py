"""The rules file keeps the conventions of Falco's rules, loads in Falco 0.40 to 0.44, and says what correlation needs."""

import re

from falco.condition import unquoted
from falco.ruleset import RULES, shipped

from sidecar.model import ASKED

LONGEST_VALUE = 255
"""libsinsp refuses a longer value in a condition."""

NEEDED = [name for name in ASKED if not name.startswith("fd.") and name != "evt.arg.addr"]
TOO_NEW = re.compile(r"\b(evt\.dir|oneof|anyof|allof|basename\(proc|val\(proc|concat\(|getopt\(|proc\.aargs)")
MATURITY = {"maturity_stable", "maturity_incubating", "maturity_sandbox"}
VALUES = re.compile(r'"(?:\\.|[^"\\])*"')


RULE_NAMES = list(shipped().rules)


def test_output_says_what_correlation_needs() -> None:
    for name in RULE_NAMES:
        output = shipped().rules[name]["output"]
        missing = [field for field in NEEDED if not re.search(rf"%{re.escape(field)}(?![\w.])", output)]
        assert missing == [], name


def test_output_of_network_and_file_rules_names_the_file_or_connection() -> None:
    for name in RULE_NAMES:
        rule = shipped().rules[name]
        if "webrce_open" in rule["condition"] or "webrce_connect" in rule["condition"]:
            assert "%fd.name" in rule["output"], name
        if "webrce_connect" in rule["condition"]:
            assert "%fd.sip" in rule["output"], name
            assert "%evt.arg.addr" in rule["output"], name


def test_no_rule_looks_at_fields_that_show_the_near_end_of_a_connection() -> None:
    written = "\n".join(line for line in RULES.read_text().splitlines() if not line.lstrip().startswith("#"))
    assert re.findall(r"fd\.(?:rip|rport|rnet|lip|lport)\b", written) == []


def test_tags_begin_with_maturity_and_name_place_tactic_technique_and_group() -> None:
    for name in RULE_NAMES:
        tags = shipped().rules[name]["tags"]
        assert tags[0] in MATURITY, name
        assert {"host", "container"} & set(tags), name
        assert any(tag.startswith("mitre_") for tag in tags), name
        assert any(re.fullmatch(r"T\d{4}(\.\d{3})?", tag) for tag in tags), name
        assert any(tag.startswith("webrce_") for tag in tags), name
        assert all(re.fullmatch(r"[A-Za-z0-9_.]+", tag) for tag in tags), name


def test_rule_has_a_tuning_macro_of_its_own_that_is_never_true() -> None:
    conditions = {item["macro"]: item["condition"] for item in shipped().items if "macro" in item}
    macros = [shipped().tuning_macro(name) for name in RULE_NAMES]

    assert len(set(macros)) == len(RULE_NAMES)
    assert {conditions[macro] for macro in macros} == {"(webrce_never_true)"}


def test_rule_is_a_quiet_building_block_with_one_sentence_that_says_how_to_tune() -> None:
    for name in RULE_NAMES:
        rule = shipped().rules[name]
        assert rule["priority"] in ("NOTICE", "INFO"), name
        assert rule["desc"].strip().endswith("."), name
        assert shipped().tuning_macro(name) in rule["desc"], name


def test_every_macro_and_list_has_our_prefix() -> None:
    names = [item.get("macro") or item.get("list") for item in shipped().items]
    assert [name for name in names if name and not name.startswith("webrce_")] == []


def test_nothing_is_newer_than_falco_0_40_or_gone_in_0_44() -> None:
    written = "\n".join(line for line in RULES.read_text().splitlines() if not line.lstrip().startswith("#"))
    assert TOO_NEW.findall(written) == []
    assert shipped().items[0] == {"required_engine_version": "0.46.0"}
    assert not [item for item in shipped().items if "required_plugin_versions" in item]


def test_no_value_is_longer_than_the_engine_takes() -> None:
    conditions = [item["condition"] for item in shipped().items if "condition" in item]
    values = [unquoted(value) for condition in conditions for value in VALUES.findall(condition)]
    assert [value for value in values if len(value) > LONGEST_VALUE] == []


def test_web_shell_rules_come_first_so_that_their_alerts_do() -> None:
    groups = [set(shipped().groups(name)) for name in RULE_NAMES]
    first_other = next(index for index, group in enumerate(groups) if "web_shell" not in group)
    assert all("web_shell" not in group for group in groups[first_other:])
