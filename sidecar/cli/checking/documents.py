"""Recognises what a file for `doctor` is, and finds Falco's settings in it.

That may be a falco.yaml, Helm values of the Falco chart or of ours (also those of an umbrella chart, which nest them),
a ConfigMap or a list of them from kubectl with settings or Falco rules in it, as YAML or JSON.
"""

from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from sidecar.cli.checking import falco_names
from sidecar.cli.doctor import Finding, Mode, plugin_state, settings_findings
from sidecar.errors import ConfigError
from sidecar.expectations import loading as expectations
from sidecar.expectations.spec import ExpectationFile
from sidecar.rules.loading import compiled
from sidecar.rules.spec import RuleFile
from sidecar.settings.schema import Settings
from sidecar.yamlfile import foreign
from sidecar.yamlfile.foreign import Document, Key
from sidecar.yamlfile.typed import build, parse_yaml

FALCO_KEYS = frozenset(
    (
        *("append_output", "base_syscalls", "buffered_outputs", "config_files", "engine", "falco_libs", "file_output"),
        *("grpc", "grpc_output", "http_output", "json_include_message_property", "json_include_output_property"),
        *("json_include_output_fields_property", "json_include_tags_property", "json_output", "libs_logger", "plugins"),
        *("load_plugins", "log_level", "log_stderr", "log_syslog", "metrics", "output_timeout", "outputs_queue"),
        *("priority", "program_output", "rule_matching", "rules_file", "rules_files", "stdout_output", "webserver"),
        *("syscall_event_drops", "syslog_output", "time_format_iso_8601", "watch_config_files"),
    )
)
"""Keys of falco.yaml; one of them is enough to recognise it."""

OUR_VALUES = frozenset(("correlationRules", "passThrough", "secretPath", "prometheusRules", "canary"))
"""Keys that only our chart's values have."""

OUR_MODES = ("http", "grpc", "sidecar", "tap")

OVERLAYS = "the files in overlays/ of our chart have all these values: add one of them with -f"

MAX_NESTING = 4
"""Charts within charts that are looked into."""


class Found(NamedTuple):
    """What one part of a file is, what is wrong with it, and what is worth knowing."""

    kind: str
    findings: list[Finding]
    notes: list[str]
    mode: str = ""


def examined(path: Path, mode: Mode | None) -> list[Found]:
    """What a file holds, and what is wrong with it.

    Raises:
        ConfigError: it cannot be read, or is nothing that concerns Falco or the correlator.
    """
    return _recognised(foreign.read(path), str(path), mode)


def examined_bytes(data: bytes, where: str, mode: Mode | None) -> list[Found]:
    """As `examined`, of text that came from elsewhere."""
    return _recognised(foreign.documents(data, where), where, mode)


def _recognised(documents: Iterable[Document], where: str, mode: Mode | None) -> list[Found]:
    found = [each for document in documents for each in _document(document, where, mode)]
    if not found:
        raise ConfigError(
            where, ["is none of: falco.yaml, Helm values of Falco or of the correlator, a ConfigMap, Falco rules"]
        )
    return found


def _document(document: Document, where: str, mode: Mode | None) -> Iterator[Found]:
    data = document.data
    if isinstance(data, list):
        yield from _falco_rules(document, where)
    elif isinstance(data, dict) and isinstance(data.get("kind"), str) and ("data" in data or "items" in data):
        yield from _kubernetes(document, where, mode)
    elif isinstance(data, dict) and "sinks" in data and not FALCO_KEYS & set(data):
        raise ConfigError(where, [f"holds settings of the correlator; use: falco-correlator check --config {where}"])
    elif isinstance(data, dict):
        nested = list(_values(document, (), where, mode))
        if nested:
            yield from nested
        elif not data or FALCO_KEYS & set(map(str, data)):
            yield _settings(document, where, mode)


def _kubernetes(document: Document, where: str, mode: Mode | None) -> Iterator[Found]:
    data = document.data
    items = data.get("items")
    if isinstance(items, list):
        for number, item in enumerate(items):
            if isinstance(item, dict) and item.get("kind") == "ConfigMap":
                yield from _kubernetes(document.part("items", number), where, mode)
        return
    files = data.get("data")
    for name, text in files.items() if isinstance(files, dict) else ():
        if str(name).endswith((".yaml", ".yml")) and isinstance(text, str):
            inner = document.text(f"{where}: data.{name}", "data", name)
            if isinstance(inner.data, list):
                yield from _falco_rules(inner, where)
            elif isinstance(inner.data, dict) and (name == "falco.yaml" or FALCO_KEYS & set(map(str, inner.data))):
                yield _settings(inner, where, mode)


def _falco_rules(document: Document, where: str) -> Iterator[Found]:
    entries = list(falco_names.entries_of(document, where))
    names = {str(entry["rule"]) for entry in entries if "rule" in entry}
    if entries:
        ours = sorted(names & set(falco_names.load(falco_names.shipped()).enabled))
        note = f"{len(names)} Falco rules, {len(ours)} of them ours"
        yield Found("Falco rules", [], [note if ours else f"{note}: see that Falco loads falco_rules/*.yaml too"])


def _settings(document: Document, where: str, mode: Mode | None, chart: "_Chart | None" = None) -> Found:
    """Falco's settings, on their own or in the values of its chart."""
    falco = document.data or {}
    if chart is not None:
        falco, mode = chart.effective(falco), mode or ("tap" if chart.is_tap() else None)
    chosen, findings = settings_findings(falco, mode)
    notes = [plugin_state(falco)]
    place = "falco.yaml" if chart is None else chart.words
    located = [
        each._replace(where=f"{where}:{document.line(*each.key)}" if each.key else where, add_to=place)
        for each in findings
    ]
    if chart is not None and any(finding.grave for finding in located):
        notes.insert(0, OVERLAYS)
    return Found("falco.yaml" if chart is None else "values of the Falco chart", located, notes, chosen)


class _Chart(NamedTuple):
    """Values of the official Falco chart, and where they are in the file."""

    values: dict[str, Any]
    keys: tuple[Key, ...]

    @property
    def words(self) -> str:
        return f"the values, below `{'.'.join(map(str, (*self.keys, 'falco')))}:`"

    def effective(self, falco: dict[str, Any]) -> dict[str, Any]:
        """Falco's settings as the chart renders them: with Falcosidekick it turns on http_output, and sends there."""
        falco = deepcopy(falco)
        sidekick = self.values.get("falcosidekick")
        if not (isinstance(sidekick, dict) and sidekick.get("enabled") is True):
            return falco
        given = falco.get("http_output")
        output = dict(given) if isinstance(given, dict) else {}
        output.setdefault("url", "")
        output["url"] = output["url"] or "http://falco-falcosidekick:2801"
        return {**falco, "json_output": True, "http_output": {**output, "enabled": True}}

    def is_tap(self) -> bool:
        """Whether Falcosidekick sends a copy of its events to the correlator."""
        sidekick = self.values.get("falcosidekick")
        return isinstance(sidekick, dict) and "correlator" in str(sidekick.get("config", "")).lower()


def _values(document: Document, keys: tuple[Key, ...], where: str, mode: Mode | None) -> Iterator[Found]:
    """Values of charts here and below: those of the Falco chart have falco.yaml under `falco`."""
    values = _at(document, keys)
    if not isinstance(values, dict) or len(keys) > MAX_NESTING:
        return
    falco, sidekick = values.get("falco"), values.get("falcosidekick")
    is_named = bool(keys) and "correlator" in str(keys[-1])
    is_ours = is_named or values.get("mode") in OUR_MODES or bool(OUR_VALUES & set(map(str, values)))
    if is_ours:
        yield from _ours(document, keys, where)
    elif isinstance(falco, dict) and FALCO_KEYS & set(map(str, falco)):
        yield _settings(document.part(*keys, "falco"), where, mode, _Chart(values, keys))
        return
    below = [found for key in values if not is_ours for found in _values(document, (*keys, key), where, mode)]
    yield from below
    if not below and not is_ours and isinstance(sidekick, dict) and "enabled" in sidekick:
        empty = Document({}, None, document.line(*keys, "falcosidekick") - 1)
        yield _settings(empty, where, mode, _Chart(values, keys))


def _at(document: Document, keys: Iterable[Key]) -> Any:
    value = document.data
    for key in keys:
        value = value[key] if isinstance(value, dict) else None
    return value


def _ours(document: Document, keys: tuple[Key, ...], where: str) -> Iterator[Found]:
    """Values of our chart: settings under `config`, rules and expectations as text."""
    values = _at(document, keys)
    findings = []
    for problem in _problems(Settings, values.get("config") or {}):
        path = problem.partition(":")[0].split(".")
        line = document.line(*keys, "config", *path)
        findings.append(Finding(True, f"config.{problem}", where=f"{where}:{line}"))
    for key, kind in (("correlationRules", RuleFile), ("expectations", ExpectationFile)):
        section = values.get(key)
        files = section.get("files") if isinstance(section, dict) else None
        for name, text in files.items() if isinstance(files, dict) else ():
            line = document.line(*keys, key, "files", name)
            findings += [Finding(True, problem, where=f"{where}:{line}") for problem in _mistakes(kind, name, text)]
    mode = str(values.get("mode", "http"))
    sidekick = values.get("falcosidekick")
    url = sidekick.get("url", "default") if isinstance(sidekick, dict) else "default"
    sinks = (values.get("config") or {}).get("sinks") if isinstance(values.get("config"), dict) else None
    if not url and not sinks:
        lines = "falcosidekick:\n  url: http://falco-falcosidekick:2801"
        what = "falcosidekick.url is empty, and config.sinks names no other sink: incidents go nowhere"
        line = document.line(*keys, "falcosidekick", "url")
        findings.append(Finding(True, what, lines, where=f"{where}:{line}", add_to="the values"))
    yield Found("values of our chart", findings, [f"mode {mode}"], mode)


def _problems(kind: type[Any], data: object) -> list[str]:
    try:
        build(kind, data, "")
    except ConfigError as error:
        return error.problems
    return []


def _mistakes(kind: type[Any], name: object, text: object) -> list[str]:
    """What is wrong with a rule or expectation file in values."""
    try:
        written = build(kind, parse_yaml(str(text).encode(), str(name)), str(name))
        if isinstance(written, RuleFile):
            compiled(written, str(name))
        else:
            expectations.compiled(written, str(name))
    except ConfigError as error:
        return [f"{name}: {problem}" for problem in error.problems]
    return []
