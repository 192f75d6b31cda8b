"""Names and tags of Falco rules: what correlation rules refer to, and no loaded Falco rule has.

Neither Falco nor the correlator alone can notice a misspelt name: its group is silent for ever.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sidecar.errors import ConfigError
from sidecar.rules.loading import SHIPPED
from sidecar.rules.rule import CorrelationRule
from sidecar.text.suggestion import did_you_mean
from sidecar.yamlfile import foreign, positions

KEYS = frozenset(("rule", "macro", "list", "required_engine_version", "required_plugin_versions"))


class FalcoRules(NamedTuple):
    """The rules of some files by name, with whether each is enabled, and all their tags."""

    enabled: dict[str, bool]
    tags: frozenset[str]


def files(paths: Iterable[Path]) -> list[Path]:
    """These files, and those in folders. Raises ConfigError for a folder without any."""
    found: list[Path] = []
    for path in paths:
        inside = sorted([*path.glob("*.yaml"), *path.glob("*.yml")]) if path.is_dir() else [path]
        if not inside:
            raise ConfigError(str(path), ["contains no Falco rules (*.yaml)"])
        found += inside
    return found


def is_falco_file(path: Path) -> bool:
    """Whether a file is one of Falco rules, or a ConfigMap with some."""
    try:
        return bool(list(_entries(path)))
    except ConfigError:
        return False


def load(paths: Iterable[Path]) -> FalcoRules:
    """The rules in these files. A file of something else is a mistake.

    Raises:
        ConfigError: a file cannot be read, or has no Falco rules.
    """
    enabled: dict[str, bool] = {}
    tags = set[str]()
    for path in paths:
        entries = list(_entries(path))
        if not entries:
            raise ConfigError(str(path), ["contains no Falco rules: expected a list with `- rule:`, `- macro:` ..."])
        for entry in entries:
            tags.update(str(tag) for tag in entry.get("tags") or [] if isinstance(entry.get("tags"), list))
            if isinstance(entry.get("rule"), str):
                before = enabled.get(entry["rule"], True)
                enabled[entry["rule"]] = entry.get("enabled", before) is not False
    return FalcoRules(enabled, frozenset(tags))


def entries_of(document: foreign.Document, where: str) -> Iterator[dict[str, Any]]:
    """The rules, macros and lists in a document: Falco's own form, or a ConfigMap of kubectl or a chart."""
    data = document.data
    if isinstance(data, list):
        found = [item for item in data if isinstance(item, dict)]
        yield from found if any(not KEYS.isdisjoint(item) for item in found) else ()
    elif isinstance(data, dict) and data.get("kind") == "ConfigMap" and isinstance(data.get("data"), dict):
        for name in data["data"]:
            if str(name).endswith((".yaml", ".yml")):
                yield from entries_of(document.text(f"{where}: data.{name}", "data", name), where)


def shipped() -> list[Path]:
    """Our own Falco rules, which are always known."""
    return sorted(SHIPPED.glob("*_rules.yaml"))


def unknown(rules: Sequence[CorrelationRule], paths: Sequence[Path]) -> list[str]:
    """The names and tags that no Falco rule in these files has, with file, line and the nearest name."""
    loaded = load([*paths, *shipped()])
    problems = []
    for rule in rules:
        for path, kind, name in _referred(rule):
            known: Iterable[str] = loaded.enabled if kind == "is named" else loaded.tags
            if name not in known:
                text = f"{path}: no Falco rule in these files {kind} {name!r}{did_you_mean(name, known)}"
                problems.append(positions.located(Path(rule.where), text))
    return problems


def disabled(rules: Sequence[CorrelationRule], paths: Sequence[Path]) -> list[str]:
    """The Falco rules that are referred to and turned off, with file and line."""
    loaded = load([*paths, *shipped()])
    return [
        positions.located(Path(rule.where), f"{path}: the Falco rule {name!r} is disabled: it needs `enabled: true`")
        for rule in rules
        for path, kind, name in _referred(rule)
        if kind == "is named" and not loaded.enabled.get(name, True)
    ]


def _referred(rule: CorrelationRule) -> Iterator[tuple[str, str, str]]:
    """Path, what it says, and the name or tag. Rules under `stock` and `lineage` may be missing: they only help."""
    for group, written in rule.written.groups.items():
        for number, name in enumerate(written.rules):
            yield f"groups.{group}.rules[{number}]", "is named", name
        for number, tag in enumerate(written.tags):
            yield f"groups.{group}.tags[{number}]", "has the tag", tag
    for number, name in enumerate(rule.written.anchor.standalone if rule.written.anchor else []):
        yield f"anchor.standalone[{number}]", "is named", name


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    for document in foreign.read(path):
        yield from entries_of(document, str(path))
