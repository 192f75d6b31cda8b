"""The shipped rules file, ready to be run over events, and to be looked at by the tests of its form."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from falco.condition import Test, compiled, remembered
from falco.event import Event
from support import fast_yaml

RULES = Path(__file__).parents[2] / "falco_rules" / "web_rce_rules.yaml"
GROUPS = {
    "webrce_web_shell": "web_shell",
    "webrce_shell_technique": "shell_technique",
    "webrce_network": "network",
    "webrce_credential": "credential",
    "webrce_interactive": "interactive",
    "webrce_lineage": "lineage",
}
CHAINS = [
    path for path in sorted(RULES.parent.glob("*_rules.yaml")) if path.name not in (RULES.name, "canary_rules.yaml")
]
"""The files of the other chains of attacks."""


class Ruleset:
    """Macros, lists and rules of one file; rules in the order in which Falco would raise them."""

    def __init__(self, path: Path = RULES) -> None:
        self.items: list[dict[str, Any]] = fast_yaml.load(path.read_text())
        self.lists: dict[str, list[str]] = {}
        self.macros: dict[str, Test] = {}
        self.rules: dict[str, dict[str, Any]] = {}
        self._tests: dict[str, Test] = {}
        for item in self.items:
            self._add(item)

    def _add(self, item: dict[str, Any]) -> None:
        if "list" in item:
            words = [str(word) for word in item["items"]]
            self.lists[item["list"]] = [w for word in words for w in self.lists.get(word, [word])]
        elif "macro" in item:
            self.macros[item["macro"]] = remembered(compiled(item["condition"], self.macros, self.lists))
        elif "rule" in item:
            self.rules[item["rule"]] = item
            self._tests[item["rule"]] = compiled(item["condition"], self.macros, self.lists)

    def fired(self, event: Event) -> list[str]:
        """The rules that an event meets."""
        return [rule for rule, test in self._tests.items() if test(event)]

    def fires(self, rule: str, event: Event) -> bool:
        """Whether an event meets one rule."""
        return self._tests[rule](event)

    def groups(self, rule: str) -> Iterator[str]:
        """The activity groups (and markers) that a rule's tags name."""
        return self.groups_by_tag(self.rules[rule]["tags"])

    @staticmethod
    def groups_by_tag(tags: Iterable[str]) -> Iterator[str]:
        """The activity groups (and markers) that tags name."""
        return (GROUPS[tag] for tag in tags if tag in GROUPS)

    def tuning_macro(self, rule: str) -> str:
        """The macro that users override to silence known good activity."""
        found: list[str] = re.findall(r"not ([a-z]+_user_known_\w+)", self.rules[rule]["condition"])
        return found[-1]


@cache
def chain(path: Path) -> Ruleset:
    """The rules of another chain of attacks, compiled once for all tests."""
    return Ruleset(path)


@cache
def shipped() -> Ruleset:
    """The rules that we ship, compiled once for all tests."""
    return Ruleset()
