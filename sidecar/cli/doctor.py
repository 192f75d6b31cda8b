"""What is missing or wrong for correlation in Falco's settings, each with the lines to add."""

import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sidecar.alerts.ancestry import GUESS, GUESSED
from sidecar.model import APPENDED, PACKED
from sidecar.settings.section import is_url
from sidecar.yamlfile import foreign

Mode = Literal["http", "grpc", "tap"]
"""How alerts come to the correlator; `tap`: Falcosidekick sends it a copy."""

PLUGIN = "lineage"

PLUGIN_FOLDER = Path("/usr/share/falco/plugins")
"""Where Falco looks for libraries with a relative path."""

MACHINES = {"x86_64": 62, "aarch64": 183}
"""The machine number in the header of an ELF file."""

HTTP_OUTPUT = "http_output:\n  enabled: true\n  url: http://127.0.0.1:2802/"

GAINED = (
    "the Falco plugin lineage is not loaded; with it, detections are placed by the true ancestry of their process"
    " instead of sessions and orphans, and services older than Falco are recognised (docs/plugin.md)"
)


class Finding(NamedTuple):
    """Something to fix: whether correlation fails without the fix, what is wrong, and the lines to add, if any.

    `key` is the setting that it is about; `where` names file and line.
    """

    grave: bool
    what: str
    lines: str = ""
    key: tuple[foreign.Key, ...] = ()
    where: str = ""
    add_to: str = "falco.yaml"


def settings_findings(falco: dict[str, Any], mode: Mode | None) -> tuple[Mode, list[Finding]]:
    """What is wrong with Falco's settings; the mode is guessed if it is not given."""
    guessed: Mode = mode or ("grpc" if _on(falco, "grpc_output") and not _on(falco, "http_output") else "http")
    by_mode = {"http": _http, "grpc": _grpc, "tap": _tap}[guessed]
    return guessed, [*_common(falco), *_plugin(falco), *by_mode(falco)]


def plugin_state(falco: dict[str, Any]) -> str:
    """Whether our Falco plugin is loaded, and what it would give if it is not."""
    return "the Falco plugin lineage is loaded" if _is_loaded(falco) else GAINED


def _common(falco: dict[str, Any]) -> Iterator[Finding]:
    if falco.get("rule_matching", "first") != "all":
        yield Finding(
            True,
            "rule_matching hides every second rule that matches an event",
            "rule_matching: all",
            ("rule_matching",),
        )
    for key, why in (
        ("json_include_output_fields_property", "alerts come without the fields that correlation needs"),
        ("json_include_tags_property", "our detections are recognised by their tags"),
    ):
        if falco.get(key, True) is not True:
            yield Finding(True, f"{key} is off: {why}", f"{key}: true", (key,))
    appended = _extra_fields(falco)
    missing = [name for name in APPENDED if name not in appended]
    has_ancestry = PACKED in appended or appended >= GUESSED
    if missing or not has_ancestry:
        listed = ", ".join([*(f'"{name}"' for name in missing), *([] if has_ancestry else [f'{PACKED}: "{GUESS}"'])])
        lines = f"append_output:\n  - match:\n      source: syscall\n    extra_fields: [{listed}]"
        what = "stock rules lack fields, so they do not count (our own rules carry theirs)"
        yield Finding(False, what, lines, ("append_output",))
    queue = falco.get("outputs_queue")
    if not (isinstance(queue, dict) and queue.get("capacity", 0)):
        yield Finding(
            False,
            "outputs_queue is unbounded: a receiver that hangs makes Falco use more and more memory",
            "outputs_queue:\n  capacity: 10000",
            ("outputs_queue",),
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
    plugins = falco.get("plugins")
    entries = [each for each in plugins if isinstance(each, dict)] if isinstance(plugins, list) else []
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
    yield from _json(falco)
    if not _takes_ours(falco):
        if not _on(falco, "http_output"):
            yield Finding(True, "http_output is off: no alert is sent here", HTTP_OUTPUT, ("http_output",))
        else:
            yield from _destination(str(falco["http_output"].get("url") or ""))
    for key in ("grpc", "grpc_output"):
        if _on(falco, key):
            what = f"{key} is on: Falco 0.44 no longer has it, and older versions queue alerts that nobody reads"
            yield Finding(False, what, f"{key}:\n  enabled: false", (key,))


def _tap(falco: dict[str, Any]) -> Iterator[Finding]:
    yield from _json(falco)


def _json(falco: dict[str, Any]) -> Iterator[Finding]:
    if falco.get("json_output") is not True:
        what = "json_output is off: Falco sends text, which cannot be correlated"
        yield Finding(True, what, "json_output: true", ("json_output",))


def _destination(url: str) -> Iterator[Finding]:
    """Where http_output sends to."""
    key = ("http_output", "url")
    host, _, path = url.partition("://")[2].partition("/")
    if not url:
        yield Finding(True, "http_output has no url", HTTP_OUTPUT, key)
    elif "falcosidekick" in host or host.endswith(":2801"):
        yield Finding(
            True,
            f"http_output sends to Falcosidekick ({url}): Falco has only this one, so the correlator sees no alert; "
            "send to the correlator, which passes every alert on (set its sinks.falcosidekick.url to this address)",
            HTTP_OUTPUT,
            key,
        )
    elif not is_url(re.sub(r"\$\{\w+\}", "/x", url)):
        yield Finding(True, f"http_output.url is not a URL: {url!r}", HTTP_OUTPUT, key)
    elif "correlator" in host and url.startswith("http://") and not path and "$" not in host:
        lines = f'http_output:\n  url: "{url.rstrip("/")}${{FALCO_CORRELATOR_PATH}}"'
        yield Finding(
            True,
            "http_output.url lacks the secret path, which the chart turns on: each alert is answered with 404, and "
            "Falco ignores that; take it from the Secret, as overlays/falco-0.44.yaml does",
            lines,
            key,
        )


def _takes_ours(falco: dict[str, Any]) -> bool:
    """Whether a folder in `config_files` has the settings that our chart makes; they come after http_output."""
    folders = falco.get("config_files")
    return isinstance(folders, list) and any("correlator" in str(each) for each in folders)


def _grpc(falco: dict[str, Any]) -> Iterator[Finding]:
    for key in ("grpc", "grpc_output"):
        if not _on(falco, key):
            yield Finding(True, f"{key} is off: nothing can be read", f"{key}:\n  enabled: true", (key,))


def _on(falco: dict[str, Any], key: str) -> bool:
    section = falco.get(key)
    return isinstance(section, dict) and section.get("enabled") is True


def _extra_fields(falco: dict[str, Any], *, with_formats: bool = True) -> set[str]:
    """Names of the fields that are appended; those that have a format of their own are not Falco's fields."""
    found: set[str] = set()
    entries = falco.get("append_output")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            given = entry.get("extra_fields")
            fields = given if isinstance(given, list) else []
            found |= {field for field in fields if isinstance(field, str)}
            if with_formats:
                found |= {name for field in fields if isinstance(field, dict) for name in field}
    return found
