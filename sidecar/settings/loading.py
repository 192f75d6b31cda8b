"""Settings from a YAML file and the environment, checked; every mistake is reported at once."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from sidecar.errors import ConfigError
from sidecar.settings import checks, renamed
from sidecar.settings.schema import Settings
from sidecar.text.suggestion import nearest
from sidecar.yamlfile.typed import build, parse_yaml, read_yaml

PREFIX = "FALCO_CORRELATOR_"


def load(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Settings from defaults, file and environment.

    Raises:
        ConfigError: every problem in them.
    """
    settings, problems = read(path, environment)
    if problems:
        raise ConfigError(str(path) if path else "settings", problems)
    return settings


def read(path: Path | None, environment: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings, and every problem in them; a value of the wrong type is replaced by its default.

    Raises:
        ConfigError: file or environment cannot be used at all.
    """
    data = read_yaml(path) if path else {}
    where = str(path) if path else "settings"
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(where, ["expected keys and values"])
    problems = list(renamed.take_out(data))
    if unusable := list(_overlay(data, environment)):
        raise ConfigError("environment", unusable)
    unprintable = list(_with_nul(data))
    for problem in unprintable:
        _take_out(data, re.split(r"[:\[]", problem)[0].split("."))
    settings, mistyped = _built(data, where)
    problems += [*unprintable, *mistyped]
    known = {problem.partition(":")[0] for problem in problems}
    problems += [problem for problem in checks.validate(settings) if problem.partition(":")[0] not in known]
    return settings, problems


def _with_nul(data: Any, path: str = "") -> Iterator[str]:
    """The texts with a NUL character, which no file name, address or name can have."""
    if isinstance(data, str) and "\0" in data:
        yield f"{path}: contains a NUL character; leave it out"
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield from _with_nul(value, f"{path}[{key}]" if isinstance(data, list) else f"{path}.{key}".lstrip("."))


def _built(data: dict[str, Any], where: str) -> tuple[Settings, list[str]]:
    """The settings without what has the wrong type or is unknown, and each such problem."""
    try:
        return build(Settings, data, where), []
    except ConfigError as error:
        for problem in error.problems:
            _take_out(data, re.split(r"[:\[]", problem)[0].split("."))
        try:
            return build(Settings, data, where), error.problems
        except ConfigError:
            return Settings(), error.problems


def _take_out(data: dict[str, Any], path: list[str]) -> None:
    section: Any = data
    for key in path[:-1]:
        section = section.get(key) if isinstance(section, dict) else None
    if isinstance(section, dict):
        section.pop(path[-1], None)


def variables() -> dict[str, str]:
    """Every environment variable, with the path of its setting."""
    return {_variable(path): path for path in _paths(Settings)}


def _variable(path: str) -> str:
    return PREFIX + path.upper().replace(".", "__")


def _paths(kind: type[Struct], above: str = "") -> Iterator[str]:
    for each in msgspec.structs.fields(kind):
        if isinstance(each.type, type) and issubclass(each.type, Struct):
            yield from _paths(each.type, f"{above}{each.encode_name}.")
        else:
            yield above + each.encode_name


def _overlay(data: dict[str, Any], environment: Mapping[str, str]) -> Iterator[str]:
    """Put the values of environment variables into the data of the file; says which cannot be."""
    known = variables()
    for name, text in environment.items():
        if not name.startswith(PREFIX):
            continue
        if name not in known:
            yield f"{name}: {_what_is_meant(name, known)}"
            continue
        *parents, last = known[name].split(".")
        section: Any = data
        for parent in parents:
            section = section.setdefault(parent, {}) if isinstance(section, dict) else None
        if isinstance(section, dict):
            section[last] = parse_yaml(text.encode(), name) if text else ""
        else:
            yield f"{name}: {'.'.join(parents)} is not a section in the file"


def _what_is_meant(name: str, known: Iterable[str]) -> str:
    old = {_variable(path): _variable(new) for path, new in renamed.RENAMED.items()}
    if name in old:
        return f"renamed to {old[name]}"
    close = nearest(name, known)
    return "no such setting" + (f", did you mean {close}?" if close else "")
