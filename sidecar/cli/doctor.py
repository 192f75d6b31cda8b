"""Reads a falco.yaml and reports what is missing or wrong for correlation, with the lines to add."""

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sidecar.alerts.ancestry import GUESS, GUESSED
from sidecar.errors import ConfigError
from sidecar.model import APPENDED, PACKED
from sidecar.yamlfile.typed import parse_yaml, read_yaml

Mode = Literal["http", "grpc"]

PLUGIN = "lineage"

PLUGIN_FOLDER = Path("/usr/share/falco/plugins")
"""Where Falco looks for libraries with a relative path."""

MACHINES = {"x86_64": 62, "aarch64": 183}
"""The machine number in the header of an ELF file."""

GAINED = (
    "the Falco plugin lineage is not loaded; with it, detections are placed by the true ancestry of their process"
    " instead of sessions and orphans, and services older than Falco are recognised (docs/plugin.md)"
)


class Finding(NamedTuple):
    """Something to fix: whether correlation fails without the fix, what is wrong, and the lines for falco.yaml."""

    grave: bool
    what: str
    lines: str


def examine(path: Path, mode: Mode | None) -> tuple[Mode, list[Finding]]:
    """What is wrong with a falco.yaml, or with the one inside a ConfigMap; the mode is guessed if it is not given.

    Raises:
        ConfigError: the file cannot be read, or is not a configuration of Falco.
    """
    falco = _falco_settings(path)
    guessed: Mode = mode or ("grpc" if _on(falco, "grpc_output") and not _on(falco, "http_output") else "http")
    findings = [*_common(falco), *_plugin(falco), *(_http(falco) if guessed == "http" else _grpc(falco))]
    return guessed, findings


def plugin_state(path: Path) -> str:
    """Whether our Falco plugin is loaded, and what it would give if it is not."""
    falco = _falco_settings(path)
    return "the Falco plugin lineage is loaded" if _is_loaded(falco) else GAINED


def _falco_settings(path: Path) -> dict[str, Any]:
    data = read_yaml(path)
    if isinstance(data, dict) and data.get("kind") == "ConfigMap":
        text = (data.get("data") or {}).get("falco.yaml")
        if not isinstance(text, str):
            raise ConfigError(str(path), ["is a ConfigMap without falco.yaml in its data"])
        data = parse_yaml(text.encode(), f"{path}: data.falco.yaml")
    if not isinstance(data, dict):
        raise ConfigError(str(path), ["does not look like falco.yaml: expected a mapping"])
    return data


def _common(falco: dict[str, Any]) -> Iterator[Finding]:
    if falco.get("rule_matching", "first") != "all":
        yield Finding(True, "rule_matching hides every second rule that matches an event", "rule_matching: all")
    for key, why in (
        ("json_include_output_fields_property", "alerts come without the fields that correlation needs"),
        ("json_include_tags_property", "our detections are recognised by their tags"),
    ):
        if falco.get(key, True) is not True:
            yield Finding(True, f"{key} is off: {why}", f"{key}: true")
    appended = _extra_fields(falco)
    missing = [name for name in APPENDED if name not in appended]
    has_ancestry = PACKED in appended or appended >= GUESSED
    if missing or not has_ancestry:
        listed = ", ".join([*(f'"{name}"' for name in missing), *([] if has_ancestry else [f'{PACKED}: "{GUESS}"'])])
        lines = f"append_output:\n  - match:\n      source: syscall\n    extra_fields: [{listed}]"
        yield Finding(False, "stock rules lack fields, so they do not count (our own rules carry theirs)", lines)
    capacity = (falco.get("outputs_queue") or {}).get("capacity", 0)
    if not capacity:
        yield Finding(
            False,
            "outputs_queue is unbounded: a receiver that hangs makes Falco use more and more memory",
            "outputs_queue:\n  capacity: 100000",
        )


def _plugin(falco: dict[str, Any]) -> Iterator[Finding]:
    entry = _entry(falco)
    if not _is_loaded(falco):
        if entry:
            yield Finding(False, "the plugin lineage is configured, but not loaded", f"load_plugins: [{PLUGIN}]")
        return
    if not entry:
        lines = "plugins:\n  - name: lineage\n    library_path: liblineage.so\n    init_config: {}"
        yield Finding(True, "load_plugins names lineage, which plugins lacks: Falco will not start", lines)
    elif not _fits_machine(PLUGIN_FOLDER / str(entry.get("library_path", ""))):
        lines = "plugins:\n  - name: lineage\n    library_path: # the library of this machine\n    init_config: {}"
        yield Finding(True, "the library of the plugin lineage is for another machine", lines)
    if PACKED not in _extra_fields(falco, with_formats=False):
        lines = f"append_output:\n  - match:\n      source: syscall\n    extra_fields: [{PACKED}]"
        yield Finding(False, "the plugin lineage is loaded, but alerts do not carry its ancestry", lines)


def _entry(falco: dict[str, Any]) -> dict[str, Any]:
    entries = [each for each in falco.get("plugins") or [] if isinstance(each, dict)]
    return next((each for each in entries if each.get("name") == PLUGIN), {})


def _is_loaded(falco: dict[str, Any]) -> bool:
    """Falco loads the plugins in `load_plugins`, or all in `plugins` if that key is missing."""
    names = falco.get("load_plugins")
    return PLUGIN in names if isinstance(names, list) else bool(_entry(falco))


def _fits_machine(library: Path) -> bool:
    """False if the file exists and is not a library for this machine; Falco may run on another one."""
    try:
        with library.open("rb") as file:
            header = file.read(20)
    except OSError:
        return True
    return header[:4] == b"\x7fELF" and int.from_bytes(header[18:20], "little") == MACHINES.get(platform.machine())


def _http(falco: dict[str, Any]) -> Iterator[Finding]:
    if falco.get("json_output") is not True:
        yield Finding(True, "json_output is off: Falco sends text, which cannot be correlated", "json_output: true")
    if not _on(falco, "http_output"):
        lines = "http_output:\n  enabled: true\n  url: http://127.0.0.1:2802/"
        yield Finding(True, "http_output is off: no alert is sent here", lines)
    elif not (falco["http_output"].get("url") or ""):
        yield Finding(True, "http_output has no url", "http_output:\n  url: http://127.0.0.1:2802/")
    for key in ("grpc", "grpc_output"):
        if _on(falco, key):
            lines = f"{key}:\n  enabled: false"
            yield Finding(
                False,
                f"{key} is on: Falco 0.44 no longer has it, and older versions queue alerts that nobody reads",
                lines,
            )


def _grpc(falco: dict[str, Any]) -> Iterator[Finding]:
    for key in ("grpc", "grpc_output"):
        if not _on(falco, key):
            yield Finding(True, f"{key} is off: nothing can be read", f"{key}:\n  enabled: true")


def _on(falco: dict[str, Any], key: str) -> bool:
    section = falco.get(key)
    return isinstance(section, dict) and section.get("enabled") is True


def _extra_fields(falco: dict[str, Any], *, with_formats: bool = True) -> set[str]:
    """Names of the fields that are appended; those that have a format of their own are not Falco's fields."""
    found: set[str] = set()
    for entry in falco.get("append_output") or []:
        if isinstance(entry, dict):
            fields = entry.get("extra_fields") or []
            found |= {field for field in fields if isinstance(field, str)}
            if with_formats:
                found |= {name for field in fields if isinstance(field, dict) for name in field}
    return found
