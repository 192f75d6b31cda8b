"""Writes the macros of the Falco rules that recognise a program by its resolved file: `python -m falco_programs`.

`proc.name` is what a link, `/proc/self/fd` or `prctl` make of it; `proc.exepath` is the file that runs. A macro `LIST_by_file`
holds for the programs of a list, `LIST_by_parent_file` for those whose parent is one of them, and so on; `LIST_by_argv0` and
`LIST_by_argument` for those that a file which is many programs, or a dynamic loader, was asked to run. `make docs` writes
their conditions: regular expressions, each short enough for the engine.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml

RULES = Path(__file__).parents[1] / "falco_rules" / "web_rce_rules.yaml"
FIELDS = {
    "file": "proc.exepath",
    "argv0": "proc.exe",
    "argument": "proc.args",
    "parent_file": "proc.pexepath",
    "ancestor_file": "proc.aexepath",
}
"""The field that each ending of a macro's name stands for."""

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
    RULES.write_text(programs(RULES.read_text()))
