"""Writes the fields that we ask of Falco wherever they stand: `python -m falco_fields`, which `make docs` runs.

`sidecar.model.Fields` is the one place for them. Made of it are the outputs of our Falco rules and every list
`extra_fields` of `append_output`: in `falco_rules/config.d`, the overlays of the chart, and docs/wiring.md. `falco-correlator
doctor` reads the same list.
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml

from sidecar.alerts.ancestry import GUESS
from sidecar.model import APPENDED, ASKED, PACKED

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

ROOT = Path(__file__).parents[1]
RULES = [path for path in sorted((ROOT / "falco_rules").glob("*_rules.yaml")) if path.name != "canary_rules.yaml"]
LISTS = (
    ROOT / "docs" / "wiring.md",
    ROOT / "docs" / "plugin.md",
    *sorted((ROOT / "falco_rules" / "config.d").glob("*.yaml")),
    *sorted((ROOT / "charts" / "falco-correlator" / "overlays").glob("*.yaml")),
)
WITH_PLUGIN = (
    ROOT / "charts" / "falco-correlator" / "overlays" / "falco-plugin.yaml",
    ROOT / "docs" / "plugin.md",
)
WIDTH = 124

SHOWN = ("proc.args", "proc.pcmdline", "proc.acmdline[2]")
"""What our rules show besides, for people: the correlation does not read it."""

OF_A_FILE = ("fd.name", "fd.dev", "fd.ino", "fd.is_upper_layer")
"""What an alert about an opened file shows of it. Of these a connection has its name alone."""

LABELS = {
    "evt.type": "evt_type",
    "user.name": "user",
    "user.uid": "user_uid",
    "user.loginuid": "user_loginuid",
    "proc.name": "process",
    "proc.exepath": "proc_exepath",
    "proc.pname": "parent",
    "proc.cmdline": "command",
    "proc.tty": "terminal",
    "proc.pexepath": "parent_exepath",
    "proc.pcmdline": "parent_command",
    "proc.acmdline[2]": "gparent_command",
}
"""Names and order that Falco's style guide asks for; the others follow under their own names."""

CONNECTION = re.compile(r"\b(\w+_connect|webrce_metadata_connector|fd\.typechar|fd\.sport)\b")
FILE = re.compile(r"\b\w+_open_(read|write)\b")
OUTPUT = re.compile(r"(?P<head>- rule: (?P<rule>[^\n]+)\n(?:(?!- rule:).)*?  output: >\n).*?(?=  priority:)", re.DOTALL)
EXTRA = re.compile(r"(?P<indent> *)extra_fields:[^\n]*\n(?P=indent) +\[\n.*?\n(?P=indent) +\]\n", re.DOTALL)


def output(rule: str, condition: str) -> str:
    """The output of a rule: its name, and what correlation and people need of an event that its condition can meet."""
    shows_file, shows_connection = FILE.search(condition), CONNECTION.search(condition)
    asked = [*dict.fromkeys([*(name for name in LABELS if name in ASKED), *ASKED, *SHOWN])]
    if not shows_connection:
        asked = [name for name in asked if not name.startswith("fd.") and name != "evt.arg.addr"]
    if shows_file:
        asked += [name for name in OF_A_FILE if name not in asked]
    if shows_connection and not shows_file:
        asked = [name for name in asked if name not in OF_A_FILE[1:]]
    if "fs.path.target" in condition:
        asked.append("fs.path.target")
    return f"{rule} | " + " ".join(f"{_label(name)}=%{name}" for name in asked)


def _label(name: str) -> str:
    plain = re.sub(r"\W", "_", name.replace("[", "").replace("]", ""))
    return LABELS.get(name) or plain.removeprefix("proc_")


def rules(text: str) -> str:
    """The text of the rules file with the outputs that its rules should have."""
    items = yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    conditions = {item["rule"]: item["condition"] for item in items if "rule" in item}

    def replacement(match: re.Match[str]) -> str:
        lines = _wrapped(output(match["rule"], conditions[match["rule"]]), " " * 4)
        return f"{match['head']}{lines}\n"

    return OUTPUT.sub(replacement, text)


def lists(text: str, *, with_plugin: bool) -> str:
    """A text with every list `extra_fields` in it as it should be: the packed field is the plugin's, or Falco's guess."""

    def replacement(match: re.Match[str]) -> str:
        indent = match["indent"]
        inner = f"{indent}  "
        names = [f'"{name}"' if "[" in name else name for name in APPENDED]
        packed = f"{inner}{PACKED}," if with_plugin else _guess(inner)
        listed = f"{_wrapped(', '.join(names) + ',', inner)}\n{packed}"
        return f"{indent}extra_fields: # made by `make docs`\n{inner}[\n{listed}\n{inner}]\n"

    return EXTRA.sub(replacement, text)


def _guess(indent: str) -> str:
    """The packed field as Falco makes it: a quoted YAML text, its lines joined without blanks."""
    lines = [""]
    for piece in re.findall(r"[^;|]*[;|]|[^;|]+", GUESS):
        if len(lines[-1]) + len(piece) > WIDTH - len(indent) - 5:
            lines.append("")
        lines[-1] += piece
    text = f"\\\n{indent}  ".join(lines)
    return f'{indent}{PACKED}:\n{indent}  "{text}",'


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def files() -> Iterator[tuple[Path, str]]:
    """Every file that holds the fields, with the text that it should have."""
    for path in RULES:
        yield path, rules(path.read_text())
    for path in LISTS:
        yield path, lists(path.read_text(), with_plugin=path in WITH_PLUGIN)


if __name__ == "__main__":
    for file, wanted in files():
        file.write_text(wanted)
