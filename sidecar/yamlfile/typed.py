"""Reads YAML files that users write (rules, settings) into typed structs and reports every mistake at once.

msgspec checks types well but stops at the first problem. Users who fix a file need all of them, each with its path in
the file, and for a misspelt key the correct one. So this module walks the struct field by field, and msgspec checks the
leaves.
"""

import re
import types
import typing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import yaml
from msgspec import Struct

from sidecar.errors import ConfigError
from sidecar.text.suggestion import did_you_mean

T = TypeVar("T", bound=Struct)

MAX_BYTES = 256 * 1024
"""Of a rule or settings file."""

MAX_NODES = 20_000
"""Keys and values of one file; the shipped rule with all its tests has about 600."""

MAX_DEPTH = 32
"""Levels of nesting in a file."""

MAX_PROBLEMS = 100
"""Problems reported per file."""

_UNITS = {
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
"""Nanoseconds of each unit of a duration."""

DURATION = f"([0-9]{{1,9}})({'|'.join(_UNITS)})"
"""What a duration looks like, as a regular expression: also for JSON Schemas."""

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "array": "a list",
    "object": "keys and values",
    "null": "nothing",
}
"""Plain words for the types in msgspec's messages."""


class Duration(int):
    """Nanoseconds, written `500ms`, `5s`, `15m`, `24h`, `7d` or `2w` in a file."""

    @classmethod
    def parse(cls, text: object) -> "Duration":
        """Raises ValueError with examples of what is valid."""
        match = re.fullmatch(DURATION, text) if isinstance(text, str) else None
        if not match:
            raise ValueError(f"expected a duration such as 500ms, 5s, 15m, 24h or 7d, got {text!r}")
        return cls(int(match[1]) * _UNITS[match[2]])

    def __str__(self) -> str:
        unit = next(unit for unit in ("h", "m", "s", "ms") if int(self) % _UNITS[unit] == 0)
        return f"{int(self) // _UNITS[unit]}{unit}"

    @property
    def seconds(self) -> float:
        return int(self) / 1e9


def lasting(text: str) -> Any:
    """The default of a duration field."""
    return msgspec.field(default_factory=lambda: Duration.parse(text))


if TYPE_CHECKING:
    from yaml import SafeLoader as _SafeLoader
else:  # libyaml where PyYAML has it
    _SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):
    """Safe YAML without duplicate keys, of which all but the last would be ignored silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen: set[object] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value!r}", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> Any:
    """Parse a YAML file. Raises ConfigError with file and line if it cannot be read or is not valid."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from None
    return parse_yaml(data, str(path))


def parse_yaml(data: bytes, where: str) -> Any:
    """Parse YAML text; `where` names it in the ConfigError for invalid YAML."""
    if len(data) > MAX_BYTES:
        raise ConfigError(where, [f"is larger than {MAX_BYTES} bytes"])
    try:
        _refuse_bombs(data)
        return yaml.load(data, Loader=_Loader)  # noqa: S506 - the loader is a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(where, [f"is not YAML: {yaml_problem(error)}"]) from None


def _refuse_bombs(data: bytes) -> None:
    """Refuse aliases, which can expand exponentially, deep nesting, and too many values."""
    depth = 0
    nodes = 0
    for event in yaml.parse(data, Loader=_SafeLoader):
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        problem = ""
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases are not allowed: repeat the value"
        elif depth > MAX_DEPTH:
            problem = "nested too deeply"
        elif nodes > MAX_NODES:
            problem = f"more than {MAX_NODES} keys and values"
        if problem:
            raise yaml.constructor.ConstructorError(None, None, problem, event.start_mark)  # type: ignore[arg-type]


def build(kind: type[T], data: object, where: str) -> T:
    """Make a `kind` from plain data.

    A Struct may have a class variable `RENAMED` that maps old keys to new ones: an old key is refused with the new one.

    Raises:
        ConfigError: every problem, each under its path in the file.
    """
    problems = list(islice(_problems(kind, data, ""), MAX_PROBLEMS))
    if problems:
        raise ConfigError(where, problems)
    return msgspec.convert(data, kind, dec_hook=_decode_duration)


def _decode_duration(kind: type, value: object) -> object:
    if kind is Duration:
        return Duration.parse(value)
    raise NotImplementedError  # pragma: no cover - msgspec's protocol for types it does not know


def _problems(kind: Any, data: object, path: str) -> typing.Iterator[str]:
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield from _struct_problems(kind, data, path)
        return
    inner = typing.get_args(kind)
    if isinstance(kind, types.UnionType) and len(inner) == 2 and inner[1] is type(None):
        yield from () if data is None else _problems(inner[0], data, path)
    elif typing.get_origin(kind) is list and isinstance(data, list):
        for index, item in enumerate(data):
            yield from _problems(inner[0], item, f"{path}[{index}]")
    elif typing.get_origin(kind) is dict and isinstance(data, dict):
        for key, item in data.items():
            if not isinstance(key, str):
                yield f"{path}: the key {key!r} must be a word"
            yield from _problems(inner[1], item, f"{path}.{key}".lstrip("."))
    else:
        yield from _leaf_problems(kind, data, path)


def _struct_problems(kind: type[Struct], data: object, path: str) -> typing.Iterator[str]:
    if not isinstance(data, dict):
        yield f"{path or 'the file'}: expected keys and values, got {_shortened(data)}"
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    renamed: dict[object, str] = getattr(kind, "RENAMED", {})
    for key in data:
        if key in renamed:
            yield f"{_join(path, key)}: renamed to {renamed[key]}"
        elif key not in fields:
            yield f"{_join(path, key)}: unknown key{_suggestion(str(key), list(fields))}"
    for name, field in fields.items():
        if name in data:
            yield from _problems(field.type, data[name], _join(path, name))
        elif field.required:
            yield f"{_join(path, name)}: is missing"


def _leaf_problems(kind: Any, data: object, path: str) -> typing.Iterator[str]:
    try:
        msgspec.convert(data, kind, dec_hook=_decode_duration)
    except msgspec.ValidationError as error:
        choices = typing.get_args(kind)
        if typing.get_origin(kind) is typing.Literal and isinstance(data, str):
            yield f"{path}: expected one of {', '.join(choices)}, got {data!r}{_suggestion(data, list(choices))}"
        else:
            yield f"{path}: {_expected(str(error).split(' - at `$')[0], data)}"


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _suggestion(word: str, known: list[str]) -> str:
    return did_you_mean(word, known) or f" (known: {', '.join(known)})"


def _shortened(data: object) -> str:
    return "nothing" if data is None else repr(data)[:60]


def _expected(text: str, data: object) -> str:
    """Msgspec's message in the words of a user: `expected a whole number, got 'abc'`."""
    match = re.fullmatch(r"Expected `(\w+)`(?: of length)?( [<>]= ?-?\d+)?(?:, got `\w+`)?", text)
    if match is None or match[1] not in _KINDS:
        return text[:1].lower() + text[1:].replace("`", "")
    return f"expected {_KINDS[match[1]]}{match[2] or ''}, got {_shortened(data)}"


def yaml_problem(error: Exception) -> str:
    """What a YAML parser did not understand, with line and column where it says them."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or next(iter(str(error).splitlines()), type(error).__name__)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem
