"""Generates parts of the chart for `make docs`: the table of values in its README, and the schema of `config`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sidecar.cli import json_schema

ROOT = Path(__file__).parent.parent
CHART = ROOT / "charts" / "falco-correlator"
TABLE = re.compile(r"(<!-- values: made by `make docs` -->\n).*(<!-- end of values -->)", re.DOTALL)

OWN = (
    *(
        "http.enabled",
        "http.host",
        "http.port",
        "http.tls",
        "http.secret_path",
        "http.secret_path_file",
        "http.insecure",
    ),
    *("grpc.enabled", "grpc.address", "grpc.ca", "grpc.cert", "grpc.key", "pass_through.mode", "pass_through.match"),
    *("sinks.falcosidekick.url", "admin", "state.path", "canary", "redaction.key", "rules"),
)
"""Settings that have a value of their own, or that are secret: refused below `config`."""


class Value(NamedTuple):
    """One row of the table."""

    path: str
    default: str
    text: str


def values(lines: list[str]) -> Iterator[Value]:
    """Every value that has a comment beginning with `# --`, in the order of the file."""
    defaults = yaml.safe_load("\n".join(lines))
    above: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in lines:
        stripped, indent = line.strip(), len(line) - len(line.lstrip())
        if stripped.startswith("#"):
            comment = [stripped[4:].strip()] if stripped.startswith("# --") else [*comment, stripped[2:]]
            continue
        key = re.match(r"([\w-]+):", stripped)
        if key:
            above = [*(each for each in above if each[0] < indent), (indent, key[1])]
            if comment and above:
                path = [name for _, name in above]
                yield Value(".".join(path), _default(defaults, path), " ".join(comment))
        comment = []


def _default(defaults: Any, path: list[str]) -> str:
    for name in path:
        defaults = defaults[name]
    return json.dumps(defaults)


def table() -> str:
    """The table of all values, in Markdown."""
    rows = [
        f"| `{value.path}` | `{value.default}` | {value.text} |"
        for value in values((CHART / "values.yaml").read_text().splitlines())
    ]
    return "\n".join(["| value | default | what it does |", "|---|---|---|", *rows]) + "\n"


def config_schema() -> dict[str, Any]:
    """The schema of the settings file without what the chart sets itself, its references resolved."""
    whole = json_schema.for_kind("settings")
    schema: dict[str, Any] = _resolved(whole["$defs"]["Settings"], whole["$defs"])
    for path in OWN:
        *above, last = path.split(".")
        section = schema
        for name in above:
            section = section["properties"][name]
        del section["properties"][last]
    return schema


def _resolved(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_resolved(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _resolved(definitions[part["$ref"].rpartition("/")[2]], definitions)
    return {key: _resolved(each, definitions) for key, each in part.items() if key not in ("examples", "title")}


def readme() -> str:
    """README.md of the chart with the table as it should be."""
    return TABLE.sub(lambda match: match[1] + table() + match[2], (CHART / "README.md").read_text())


def schema() -> str:
    """values.schema.json with the settings of the service as they are."""
    data = json.loads((CHART / "values.schema.json").read_text())
    data["properties"]["config"] = config_schema()
    return json.dumps(data, indent=2) + "\n"


UMBRELLA = """\
# Values of the umbrella: what has to agree between the three, and the values of overlays/falco-0.44.yaml below `falco`.
# Made by `make docs`; put your own into a second file.
falco-correlator:
  fullnameOverride: falco-correlator # the values for Falco below use this name
  falcosidekick:
    url: http://falco-falcosidekick:2801
falco:
  fullnameOverride: falco
  falcosidekick:
    enabled: true
    fullnameOverride: falco-falcosidekick
    config:
      alertmanager:
        endpoint: /api/v2/alerts
        expiresafter: 86400 # an open incident does not resolve by itself
"""


def umbrella() -> str:
    """umbrella/values.yaml from the overlay."""
    overlay = (CHART / "overlays" / "falco-0.44.yaml").read_text()
    lines = overlay[overlay.index("\nfalco:") + 1 :].splitlines()
    return UMBRELLA + "".join(f"  {line}".rstrip() + "\n" for line in lines)


if __name__ == "__main__":
    (CHART / "umbrella" / "values.yaml").write_text(umbrella())
    (CHART / "README.md").write_text(readme())
    (CHART / "values.schema.json").write_text(schema())
