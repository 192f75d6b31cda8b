"""Settings from a YAML file and the environment, checked; every mistake is reported at once."""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from sidecar.errors import ConfigError
from sidecar.settings import checks
from sidecar.settings.schema import Settings
from sidecar.yamlfile.typed import build, parse_yaml, read_yaml

PREFIX = "FALCO_CORRELATOR_"


def load(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Settings from defaults, file and environment; raises ConfigError with every problem in them."""
    data = read_yaml(path) if path else {}
    where = str(path) if path else "settings"
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(where, ["expected keys and values"])
    _overlay(data, environment)
    settings = build(Settings, data, where)
    problems = list(checks.validate(settings))
    if problems:
        raise ConfigError(where, problems)
    return settings


def variables() -> dict[str, str]:
    """Every environment variable, with the path of its setting."""
    return {PREFIX + path.upper().replace(".", "__"): path for path in _paths(Settings)}


def _paths(kind: type[Struct], above: str = "") -> Iterator[str]:
    for each in msgspec.structs.fields(kind):
        if isinstance(each.type, type) and issubclass(each.type, Struct):
            yield from _paths(each.type, f"{above}{each.encode_name}.")
        else:
            yield above + each.encode_name


def _overlay(data: dict[str, Any], environment: Mapping[str, str]) -> None:
    known = variables()
    for name, text in environment.items():
        if not name.startswith(PREFIX):
            continue
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            meant = f", did you mean {close[0]}?" if close else ""
            raise ConfigError("environment", [f"{name}: no such setting{meant}"])
        *parents, last = known[name].split(".")
        inside = data
        for parent in parents:
            inside = inside.setdefault(parent, {})
            if not isinstance(inside, dict):
                raise ConfigError("environment", [f"{name}: {parent} is not a section in the file"])
        inside[last] = parse_yaml(text.encode(), name) if text else ""
