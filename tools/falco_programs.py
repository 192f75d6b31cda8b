"""Writes the lists of programs in the Falco rules, and the macros that use them: `python -m falco_programs`.

The lists are those of `falco_rules/programs.yaml`, so that rules and correlation never disagree about a name. Names with
`*` stay out of them, because a Falco list has whole names only; macros of the rules cover those.

`proc.name` is what a link, `/proc/self/fd` or `prctl` make of it; `proc.exepath` is the file that runs. A macro `LIST_by_file`
holds for the programs of a list, `LIST_by_parent_file` for those whose parent is one of them, and so on; `LIST_by_argv0` and
`LIST_by_argument` for those that a file which is many programs, or a dynamic loader, was asked to run. `make docs` writes
their conditions: regular expressions, each short enough for the engine.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parents[1] / "falco_rules" / "web_rce_rules.yaml"
TABLE = RULES.with_name("programs.yaml")
FIELDS = {
    "file": "proc.exepath",
    "argv0": "proc.exe",
    "argument": "proc.args",
    "parent_file": "proc.pexepath",
    "ancestor_file": "proc.aexepath",
}
"""The field that each ending of a macro's name stands for."""

LISTS = {
    "webrce_shells": ("shells",),
    "webrce_file_readers": ("file_readers",),
    "webrce_shell_utils": ("webrce_file_readers", "shell_utilities", "multi_call"),
    "webrce_http_clients": ("http_clients",),
    "webrce_net_utils": ("webrce_http_clients", "network_utilities"),
    "webrce_web_servers": ("services.web_servers",),
    "webrce_databases": ("services.databases",),
}
"""Each list of the Falco rules with the kinds of the table, and the lists, that it is made of."""

LIST = re.compile(r"- list: (?P<list>\w+) # made by `make docs`\n  items: \[[^]]*\]\n")

BEFORE = {
    "proc.exe": "-?([^ ]*/)?",
    "proc.args": "(--[^ ]+ ([^ -][^ ]* )?)*(([^ ]*/)?(busybox|toybox)[^ /]* )?(--coreutils-prog=)?([^ ]*/)?",
    "proc.pexepath": "(/usr(/local)?)?/s?bin/",
}
"""What stands before a program's name in a field: the options of a dynamic loader, and a file that is many programs; of a
parent that is to be a tool, a folder of tools. In the others it is any folder: images put programs anywhere."""

AFTER = {"proc.args": r"( (.|\n)*)?"}

LONGEST_VALUE = 255
"""Characters of a value in a condition that libsinsp accepts."""

MACRO = re.compile(
    r"(?P<head>- macro: (?P<list>\w+?)_by_(?P<whose>\w+) # made by `make docs`\n)  condition: >\n(?:    [^\n]*\n)+"
)


def conditions(names: list[str], field: str) -> Iterator[str]:
    """Checks of a field with a path that together hold for every name, and for nothing else."""
    escaped = [re.sub(r"[.+]", r"[\g<0>]", name) for name in names]
    while escaped:
        taken = 1
        while taken < len(escaped) and len(_pattern(field, escaped[: taken + 1])) <= LONGEST_VALUE:
            taken += 1
        yield f'{field} regex "{_pattern(field, escaped[:taken])}"'
        escaped = escaped[taken:]


def _pattern(field: str, names: list[str]) -> str:
    return f"{BEFORE.get(field, '.*/')}({'|'.join(names)}){AFTER.get(field, '')}"


def lists(text: str, table: dict[str, Any]) -> str:
    """The text of the rules file with its lists as a table of programs has them."""

    def replacement(match: re.Match[str]) -> str:
        items = ", ".join(_names(LISTS[match["list"]], table))
        wrapped = textwrap.fill(
            items, 120, initial_indent="  items: [", subsequent_indent=" " * 10, break_on_hyphens=False
        )
        return f"- list: {match['list']} # made by `make docs`\n{wrapped}]\n"

    return LIST.sub(replacement, text)


def _names(kinds: Iterable[str], table: dict[str, Any]) -> Iterator[str]:
    """The whole names of these kinds, and the names of lists among them."""
    for kind in kinds:
        if kind in LISTS:
            yield kind
            continue
        at = table
        for part in kind.split("."):
            at = at[part]
        yield from (name for name in at["files"] if "*" not in name)


def programs(text: str) -> str:
    """The text of the rules file with its macros `LIST_by_...` as they should be."""
    lists = {item["list"]: [str(name) for name in item["items"]] for item in yaml.safe_load(text) if "list" in item}

    def replacement(match: re.Match[str]) -> str:
        names, whose = lists[match["list"]], match["whose"]
        below = [f"{name}_by_{whose}" for name in names if name in lists]
        checks = [*below, *conditions([name for name in names if name not in lists], FIELDS[whose])]
        joined = " or\n".join(checks)
        return match["head"] + "  condition: >\n" + textwrap.indent(f"({joined})", " " * 4) + "\n"

    return MACRO.sub(replacement, text)


if __name__ == "__main__":
    RULES.write_text(programs(lists(RULES.read_text(), yaml.safe_load(TABLE.read_text()))))
