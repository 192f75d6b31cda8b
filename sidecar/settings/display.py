"""The settings in effect as they may be shown to a person: a file to go on from, its secrets hidden."""

from typing import Any

import msgspec

from sidecar.settings.schema import Settings

HIDDEN = "***"
"""In place of a secret where settings are shown."""


def to_yaml(settings: Settings, *, hide: bool = False) -> str:
    """The settings in effect, as a file that `load` takes; with `hide` as it may be shown, without secrets."""
    import yaml  # noqa: PLC0415 - only here

    data = msgspec.to_builtins(settings, enc_hook=str)
    if hide:
        _hide(data)
    return yaml.safe_dump(data, sort_keys=False)


def _hide(data: dict[str, Any]) -> None:
    for section, key in (("http", "secret_path"), ("redaction", "key")):
        data[section][key] = data[section][key] and HIDDEN
    headers = data["sinks"]["webhook"]["headers"]
    headers.update(dict.fromkeys(headers, HIDDEN))
    for place in (data["sinks"]["falcosidekick"], data["sinks"]["webhook"], data["pass_through"]):
        scheme, slashes, rest = place["url"].partition("://")
        if "@" in rest.partition("/")[0]:
            place["url"] = f"{scheme}{slashes}{HIDDEN}@{rest.partition('@')[2]}"
