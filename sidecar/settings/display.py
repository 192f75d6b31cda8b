"""The settings in effect as they may be displayed: a valid settings file, with secrets hidden."""

from urllib.parse import urlsplit

import msgspec

from sidecar.settings.schema import Settings
from sidecar.settings.section import Leaf, Secret, Url, leaves

HIDDEN = "***"
"""Replaces a secret."""


def to_yaml(settings: Settings, *, hide: bool = False) -> str:
    """The settings in effect as a settings file; with `hide`, without its secrets."""
    import yaml  # noqa: PLC0415 - only here

    data = msgspec.to_builtins(settings, enc_hook=str)
    for leaf in leaves(settings) if hide else ():
        section = data
        for key in leaf.keys[:-1]:
            section = section[key]
        section[leaf.keys[-1]] = _hidden(leaf, section[leaf.keys[-1]])
    return yaml.safe_dump(data, sort_keys=False)


def _hidden(leaf: Leaf, shown: object) -> object:
    """What may be displayed of a value."""
    if leaf.has(Secret):
        return HIDDEN if leaf.value else shown
    if leaf.has(Url):
        return _without_password(leaf.value)
    return shown


def _without_password(url: str) -> str:
    host = urlsplit(url).netloc
    return url.replace(host, f"{HIDDEN}@{host.rpartition('@')[2]}", 1) if "@" in host else url
