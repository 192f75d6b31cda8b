"""A new rule is ready as it is written, and what is wrong with a rule is reported so that one learns from it.

Covers: `cli.testing.rule_tests`, `cli.json_schema`, `yamlfile.positions`.
"""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import DATA
from hypothesis import given
from hypothesis import strategies as st

from sidecar.cli import new_rule
from sidecar.cli.main import main
from sidecar.cli.testing import rule_tests
from sidecar.errors import ConfigError
from sidecar.rules.loading import compiled, load
from sidecar.rules.spec import RuleFile
from sidecar.yamlfile.positions import line
from sidecar.yamlfile.typed import build, parse_yaml

MINING = ("-g", "miner", "Miner started", "-g", "pool", "Pool, contacted: yes", "-g", "cron", "tag:mitre_persistence")


def ran(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize(
    "options",
    [
        (),
        MINING,
        ("--scope", "container", *MINING),
        ("-g", "alone", "One rule"),
        ("--from", str(DATA / "stock_alerts.jsonl")),
        ("--from", str(DATA / "stock_alerts.jsonl"), "-g", "shells", "Run shell untrusted"),
    ],
    ids=["example", "groups", "container", "one group", "from", "from and groups"],
)
def test_a_new_rule_passes_check_and_its_own_tests_and_every_case_has_one(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    file = tmp_path / "my.yaml"
    written, checked, tested = (
        ran("new-rule", "my-rule", *options, "--output", file),
        ran("check", file),
        ran("test", file),
    )

    assert written.output == f"wrote {file}; now: falco-correlator check {file}; falco-correlator test {file}\n"
    assert (checked.exit_code, checked.stderr) == (0, "")
    assert tested.exit_code == 0, tested.output
    assert max(map(len, file.read_text().splitlines())) <= 120


def test_the_schema_is_beside_it_where_the_first_line_says(tmp_path: Path) -> None:
    ran("new-rule", "my-rule", "-o", tmp_path / "my.yaml")
    first = (tmp_path / "my.yaml").read_text().splitlines()[0]

    assert first == "# yaml-language-server: $schema=correlation-rule.schema.json"
    assert (tmp_path / "correlation-rule.schema.json").read_bytes() == new_rule.SCHEMA.read_bytes()


def test_a_rule_beside_the_shipped_ones_uses_their_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_rule, "SHIPPED", tmp_path)
    (tmp_path / "correlation").mkdir()
    ran("new-rule", "my-rule", "-o", tmp_path / "correlation" / "my.yaml")

    assert [file.name for file in (tmp_path / "correlation").iterdir()] == ["my.yaml"]
    assert (
        (tmp_path / "correlation" / "my.yaml")
        .read_text()
        .startswith("# yaml-language-server: $schema=../correlation-rule.schema.json\n")
    )


def test_groups_from_the_command_line_come_first_and_their_rules_are_proposed_nowhere_else(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    ran("new-rule", "my", "-o", file, "--from", DATA / "stock_alerts.jsonl", "-g", "shells", "Run shell untrusted")
    (rule,) = load([file])

    assert rule.groups[0] == "shells"
    assert [name for name, group in rule.written.groups.items() if "Run shell untrusted" in group.rules] == ["shells"]
    assert "Run shell untrusted  # 14 alerts" in file.read_text()


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("mine")
    outcome = ran("new-rule", "my", "-o", tmp_path / "my.yaml")

    assert (outcome.exit_code, (tmp_path / "my.yaml").read_text()) == (2, "mine")
    assert "exists already; choose another with --output" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        (("My Rule",), "'My Rule': expected a name of small letters, digits and -, for example crypto-mining"),
        (("x", "-g", "two words", "R"), "group 'two words': expected one word such as first_sign"),
        (("x", "-g", "a", "R", "-g", "b", "R"), "'R': is in more than one group; list it once"),
        (("x", "--from", "EMPTY"), "contains no alerts of Falco, so no groups can be proposed"),
    ],
)
def test_what_cannot_be_a_rule_is_told_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[str, ...], outcome: str
) -> None:
    (tmp_path / "empty.jsonl").write_text('{"no": "alert"}\nnot json\n')
    options = [str(tmp_path / "empty.jsonl") if each == "EMPTY" else each for each in arguments]
    result = ran("new-rule", *options, "-o", tmp_path / "x.yaml")

    assert (result.exit_code, outcome in result.stderr) == (2, True)
    assert not (tmp_path / "x.yaml").exists()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    outcome = ran("new-rule", "my", "-o", tmp_path / "missing" / "my.yaml")

    assert (outcome.exit_code, "cannot be written: No such file or directory" in outcome.stderr) == (2, True)


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=6, unique=True))
def test_any_name_of_a_falco_rule_can_stand_in_it(names: list[str]) -> None:
    made = new_rule.text(new_rule.NewRule("x", {f"g{number}": [name] for number, name in enumerate(names)}))
    rule = compiled(build(RuleFile, parse_yaml(made.encode("utf-8", "surrogatepass"), "x"), "x"), "x")

    assert [group.rules or group.tags for group in rule.written.groups.values()] == [
        [name.removeprefix("tag:")] for name in names
    ]


BROKEN = """\
id: crypto-mining
name: Crypto mining detected
groups:
  miner: {rules: [Miner started]}
  pool: {rules: [Pool connection]}
  cron: {rules: [Schedule Cron Jobs]}
anchor: {groups: [miner]}
window: 5m
cases:
  - {name: Established, severity: critical, when: miner and pool and cron}
  - {name: Mining, severity: high, when: miner and pool}
tests:
  - name: The test
    alerts:
"""


def why(tmp_path: Path, *lines: str) -> str:
    """What `test` says of the broken rule with a test that ends so."""
    file = tmp_path / "rule.yaml"
    file.write_text(BROKEN + "".join(f"      - {each}\n" for each in lines[:-1]) + f"    expect: {lines[-1]}\n")
    outcome = ran("test", file)

    assert outcome.exit_code == 1
    assert f"where:    {file}:13" in outcome.output
    return outcome.output


def test_a_failing_test_names_a_rule_that_is_misspelt(tmp_path: Path) -> None:
    outcome = why(tmp_path, "{rule: Miner startd, process: tini > xmrig}", "[{severity: high, case: Mining}]")

    assert (
        "alert 1, 'Miner startd' (tini > xmrig): the rule counts for no group, did you mean 'Miner started'?" in outcome
    )
    assert "no execution context was opened: none of miner was seen" in outcome
    assert "got:      silence" in outcome


def test_a_failing_test_names_the_groups_that_were_seen_and_that_are_missing(tmp_path: Path) -> None:
    outcome = why(
        tmp_path,
        "{detect: [miner], process: tini > bash > xmrig}",
        "{detect: [cron], process: tini > bash > crontab, at: 2s}",
        "{detect: [pool, miner], process: tini > bash > xmrig, at: 1h}",
        "[{severity: critical, case: Established}]",
    )

    assert "together in app, below bash: miner, pool; too old, the window is 5m: cron" in outcome
    assert "'Established' needs miner and pool and cron; missing: cron" in outcome


def test_a_failing_test_says_what_joined_no_context(tmp_path: Path) -> None:
    outcome = why(
        tmp_path,
        "{detect: [miner], process: tini > bash > xmrig}",
        "{detect: [pool], process: containerd-shim > sh > curl, at: 2s}",
        "[{severity: high, case: Mining}]",
    )

    assert "pool by curl joined no context: no miner was seen above it" in outcome


@pytest.mark.parametrize(
    ("expected", "outcome"),
    [
        ("{severity: high, case: Minin}", "this rule has no case named 'Minin', did you mean 'Mining'?"),
        ("{severity: low, case: Mining}", "'Mining' is high, the test expects low"),
    ],
)
def test_a_failing_test_says_that_its_expectation_is_wrong(tmp_path: Path, expected: str, outcome: str) -> None:
    assert outcome in why(tmp_path, "{detect: [miner, pool], process: tini > bash > xmrig}", f"[{expected}]")


def test_a_failing_test_says_that_a_stronger_case_came(tmp_path: Path) -> None:
    outcome = why(tmp_path, "{detect: [miner, pool, cron], process: a > b}", "[{severity: high, case: Mining}]")

    assert "'Mining' needs miner and pool; what was seen together is already an earlier row of the table" in outcome


def test_a_failing_test_says_that_only_the_order_differs(tmp_path: Path) -> None:
    outcome = why(
        tmp_path,
        "{detect: [miner, pool], process: tini > bash > xmrig}",
        "{detect: [cron], process: tini > bash > crontab, at: 2s}",
        "[{severity: critical, case: Established}, {severity: high, case: Mining}]",
    )

    assert "the same notifications arrived in another order" in outcome


def test_check_names_the_line_of_each_mistake_and_the_nearest_name(tmp_path: Path) -> None:
    file = tmp_path / "rule.yaml"
    file.write_text(BROKEN.replace("when: miner and pool}", "when: minr and pool}") + "      []\n    expect: []\n")
    outcome = ran("check", file)

    assert outcome.exit_code == 2
    assert outcome.stderr.startswith(f"{file}:11: cases[1].when: unknown group 'minr', did you mean 'miner'? (known: ")


def test_check_names_cases_that_no_test_expects(tmp_path: Path) -> None:
    file = tmp_path / "rule.yaml"
    file.write_text(BROKEN + "      - {detect: [miner], process: a > b}\n    expect: []\n")

    assert ran("check", file).stderr.splitlines() == [
        "crypto-mining: no test expects the case 'Established'",
        "crypto-mining: no test expects the case 'Mining'",
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("id", 1),
        ("groups.pool", 5),
        ("groups.pool.rules[0]", 5),
        ("cases[1].when", 11),
        ("cases[9]", 9),
        ("tests[0].alerts", 14),
        ("nothing", 0),
        ("", 0),
    ],
)
def test_a_path_in_a_file_has_a_line(tmp_path: Path, path: str, expected: int) -> None:
    (tmp_path / "rule.yaml").write_text(BROKEN + "      []\n    expect: []\n")

    assert expected == line(tmp_path / "rule.yaml", path)


def test_a_file_that_is_gone_has_no_lines(tmp_path: Path) -> None:
    assert line(tmp_path / "gone.yaml", "id") == 0


def test_a_rule_that_passes_has_nothing_to_explain() -> None:
    assert all(result.why == () for result in rule_tests.run(load([DATA / "crypto_mining.yaml"])))


def test_a_rule_file_with_mistakes_is_never_written() -> None:
    with pytest.raises(ConfigError, match="13 groups, at most 12"):
        new_rule.text(new_rule.NewRule("x", {f"g{number}": [f"r{number}"] for number in range(13)}))
