"""Writes docs/detections.md from the rules and the detection tables: `python -m falco.docs > docs/detections.md`."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from falco.ruleset import Ruleset
from falco.tables import Case, Detection, detections

PAGE = Path(__file__).parents[1] / "docs" / "detections.md"
HEAD = """# Detections

<!-- Made by `make docs` from falco_rules/web_rce_rules.yaml and tests/falco/detections.yaml. Edit those. -->

Each detection is one Falco rule of `falco_rules/web_rce_rules.yaml`. Its tag puts it into an activity group; the
correlation decides what groups mean together. To tune one, override its macro in a rules file of your own:

```yaml
- macro: webrce_user_known_java_children
  condition: (proc.pname = java and proc.cmdline = "df -k /data")
  override: {condition: replace}
```

Override with whole commands and with what stands *above* the process. A word that a command may contain can be typed by an
intruder too.

Three macros change what is seen: `webrce_network_utilities_on_hosts` (network utilities on hosts, off),
`webrce_private_addresses_too` (a shell's connections to private addresses, off) and `webrce_ci` (what continuous
integration is; there web shells are not reported).
"""
MITRE = re.compile(r"T\d{4}(\.\d{3})?$")


def page() -> str:
    """The whole page."""
    ruleset = Ruleset()
    entries = detections()
    rows = "\n".join(_row(entry, ruleset) for entry in entries)
    table = f"| id | detection | group |\n| --- | --- | --- |\n{rows}\n"
    return "\n".join([HEAD, table, *(_section(entry, ruleset) for entry in entries)])


def _row(entry: Detection, ruleset: Ruleset) -> str:
    return f"| {entry.number} | {entry.rule} | {_groups(entry, ruleset)} |"


def _groups(entry: Detection, ruleset: Ruleset) -> str:
    return ", ".join(f"`{group}`" for group in ruleset.groups(entry.rule))


def _section(entry: Detection, ruleset: Ruleset) -> str:
    return "\n".join(_lines(entry, ruleset)) + "\n"


def _lines(entry: Detection, ruleset: Ruleset) -> Iterator[str]:
    tags = ruleset.rules[entry.rule]["tags"]
    yield f"## {entry.number}. {entry.rule}\n"
    yield f"{entry.sees}\n"
    yield f"- Group: {_groups(entry, ruleset)}"
    yield f"- Left alone: {entry.ignores}"
    yield f"- Known false positives: {entry.false_positives}"
    yield f"- MITRE ATT&CK: {', '.join(_mitre(tags))}"
    yield f"- Tuning macro: `{ruleset.tuning_macro(entry.rule)}`"
    yield f"- Fires on: {_example(entry.chains(fires=True)[0])}"
    yield f"- Silent on: {_example(entry.chains(fires=False)[0])}"


def _mitre(tags: list[str]) -> list[str]:
    tactics = [tag.removeprefix("mitre_").replace("_", " ") for tag in tags if tag.startswith("mitre_")]
    return tactics + [tag for tag in tags if MITRE.match(tag)]


def _example(case: Case) -> str:
    return " > ".join(f"`{entry}`" for entry in case.chain) + ("" if case.container else " (on a host)")


if __name__ == "__main__":
    sys.stdout.write(page())
