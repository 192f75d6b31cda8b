"""Files that people write: every problem at once, with its path."""

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from sidecar.cli import json_schema
from sidecar.errors import ConfigError
from sidecar.yamlfile.typed import MAX_BYTES, MAX_NODES, Duration, build, lasting, parse_yaml, read_yaml


class Inner(Struct, forbid_unknown_fields=True):
    size: int
    names: list[str] = []


class Outer(Struct, forbid_unknown_fields=True):
    inner: Inner
    many: dict[str, Inner] = {}
    wait: Duration = lasting("1s")
    maybe: Inner | None = None


def problems(data: object) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        build(Outer, data, "file.yaml")
    return raised.value.problems


def test_every_problem_is_told_with_its_path() -> None:
    data = {"inner": {"size": "x", "names": ["a", 5]}, "many": {"k": {"sise": 1}}, "wait": "5 s", "maybe": 3}

    assert problems(data) == [
        "inner.size: expected a whole number, got 'x'",
        "inner.names[1]: expected text, got 5",
        "many.k.sise: unknown key, did you mean 'size'?",
        "many.k.size: is missing",
        "wait: expected a duration such as 500ms, 5s, 15m, 24h or 7d, got '5 s'",
        "maybe: expected keys and values, got 3",
    ]


def test_each_line_of_the_error_names_the_file() -> None:
    with pytest.raises(ConfigError) as raised:
        build(Outer, {"inner": {}, "x": 1}, "file.yaml")

    assert all(line.startswith("file.yaml: ") for line in str(raised.value).splitlines())


def test_an_empty_file_is_told_so() -> None:
    assert problems(None) == ["the file: expected keys and values, got nothing"]


def test_what_is_right_is_built() -> None:
    assert Duration.parse("2m") == build(Outer, {"inner": {"size": 1}, "wait": "2m"}, "f").wait


@given(st.integers(1, 999_999), st.sampled_from(["ms", "s", "m", "h", "d", "w"]))
def test_a_duration_that_can_be_read_is_valid_for_editors_and_helm(number: int, unit: str) -> None:
    published = json_schema.for_kind("rule")["$defs"]["RuleFile"]["properties"]["window"]["pattern"]

    assert Duration.parse(f"{number}{unit}") > 0
    assert re.search(published, f"{number}{unit}")


@given(st.integers(1, 999_999), st.sampled_from(["ms", "s", "m", "h", "d", "w"]))
def test_a_duration_reads_what_it_writes(number: int, unit: str) -> None:
    duration = Duration.parse(f"{number}{unit}")

    assert duration == Duration.parse(str(duration))


@pytest.mark.parametrize("text", ["", "5", "5 s", "s", "-5s", "1.5s", "5y", 5, None, "9999999999s"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"a: &x 1\nb: *x", "line 2, column 4: aliases are not allowed"),
        (b"a: 1\na: 2", "line 2, column 1: duplicate key 'a'"),
        (b"a: [1", "line \\d, column \\d: .*expected ',' or '\\]'"),
        (b"[" * 5000, "nested too deeply|nesting depth"),
        (b"? [a]\n: 1", "line 1, column 3: a key must be a word"),
        (b"\x00", "is not YAML"),
        (b"a: !!python/object/apply:os.system [id]", "is not YAML"),
        (b"x" * (MAX_BYTES + 1), "is larger than"),
    ],
)
def test_dangerous_or_broken_yaml_is_refused_with_its_line(data: bytes, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_yaml(data, "file.yaml")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing.yaml: cannot be read: No such file or directory"):
        read_yaml(tmp_path / "missing.yaml")


@given(st.binary(max_size=300))
def test_any_bytes_are_yaml_or_a_config_error(data: bytes) -> None:
    with suppress(ConfigError):
        parse_yaml(data, "f")


@pytest.mark.parametrize("key", [None, 1, 1.5, True])
def test_a_key_that_is_no_word_is_told(key: object) -> None:
    assert problems({"inner": {"size": 1}, "many": {key: {"size": 1}}}) == [f"many: the key {key!r} must be a word"]


def test_a_file_of_very_many_values_is_refused_before_they_are_built() -> None:
    wide = b"a: [" + b"x," * 100_000 + b"x]"
    with pytest.raises(ConfigError, match=f"more than {MAX_NODES} keys and values"):
        parse_yaml(wide, "wide.yaml")


def test_a_file_of_as_many_values_as_are_allowed_is_read() -> None:
    values = MAX_NODES - 3  # beside them the mapping, its key and the list

    assert len(parse_yaml(b"a: [" + b"x," * (values - 1) + b"x]", "full.yaml")["a"]) == values
