"""The rules on the plugin's page are valid, and each fires for what it is meant for.

Covers: `docs/plugin.md`.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from falco.condition import compiled
from falco.event import Event
from support import fast_yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plugin.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(- rule:.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
RULES: dict[str, dict[str, Any]] = {rule["rule"]: rule for block in BLOCKS for rule in fast_yaml.load(block)}
EXEC = {"evt.type": "execve", "evt.rawres": 0}

PLAYED: dict[str, dict[str, Any]] = {
    "Shell below a web server": {"proc.name": "sh", "lineage.names": ["sh", "nginx", "nginx", "systemd"]},
    "Network utility below a cron job": {"proc.name": "curl", "lineage.names": ["sh", "cron", "systemd"]},
    "Command in an entered container": {"proc.name": "ls", "lineage.names": ["bash", "runc"], "lineage.entered": True},
}


class Listed(Event):
    """An event whose fields may be lists, as the plugin's are."""

    def values(self, field: str) -> list[Any]:
        return [each for value in super().values(field) for each in (value if isinstance(value, list) else [value])]


def fired(fields: dict[str, Any]) -> list[str]:
    event = Listed(EXEC | fields)
    return [name for name, rule in RULES.items() if compiled(rule["condition"], {}, {})(event)]


def test_the_page_has_a_rule_for_each_use() -> None:
    assert RULES.keys() == PLAYED.keys()
    assert all({"desc", "output", "priority"} <= rule.keys() for rule in RULES.values())


@pytest.mark.parametrize("rule", PLAYED)
def test_a_rule_fires_for_its_own_use_only(rule: str) -> None:
    assert fired(PLAYED[rule]) == [rule]


def test_what_a_network_service_below_cron_starts_is_no_cron_job() -> None:
    assert fired(PLAYED["Network utility below a cron job"] | {"lineage.serves": [8080]}) == []


def test_the_rules_use_no_field_that_the_plugin_lacks() -> None:
    source = (ROOT / "plugin" / "src" / "plugin.rs").read_text()
    used = set(re.findall(r"lineage\.\w+", json.dumps(RULES)))

    assert used <= set(re.findall(r'field\(\s*"(lineage\.\w+)"', source))
