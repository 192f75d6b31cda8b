"""`{...}` in the texts of a correlation rule and of links: checked when they are loaded, filled in when used."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from sidecar.model import Notification
from sidecar.text.suggestion import nearest

TRIAGE = frozenset(
    (
        *("namespace", "pod", "container", "container_name", "host", "user", "pid", "vpid", "shells", "shell_vpids"),
        *("first_seconds", "first_time", "way_in_time"),
    ),
)
"""What a triage command may name; filled in from the incident, quoted for a shell.

`shells` and `shell_vpids` are the processes below the service, `PID:START` each (START in seconds since 1970), as the
host and as the container numbers them."""

TELL = frozenset(("service", "program", "command", "file", "remote"))
"""What the sentences of an activity group may name; filled in from a detection."""

LINK = frozenset(("incident", "severity", "namespace", "pod", "container", "host", "first_ms", "last_ms"))
"""What a link of the incident page may name; filled in from the incident, quoted for a URL."""

PAGE = LINK | {"cluster"}
"""What the address of an incident's page may name (setting `url`)."""

_PLACEHOLDER = re.compile(r"\{([A-Za-z_-]+)\}")


def mistakes(path: str, text: str, known: frozenset[str]) -> Iterator[str]:
    """What is wrong with the placeholders of a text; `path` says where it stands in its file."""
    for name in _PLACEHOLDER.findall(text):
        if name not in known:
            close = nearest(name.lower(), known, 0.75)
            meant = f", did you mean {{{close}}}?" if close else f" (known: {', '.join(sorted(known))})"
            yield f"{path}: unknown placeholder {{{name}}}{meant}"


def filled(text: str, values: Mapping[str, str], quote: Callable[[str], str] = str) -> str:
    """The text with its placeholders replaced, each value quoted."""
    parts = list(_split(text))
    parts[1::2] = [quote(values[name]) for name in parts[1::2]]
    return "".join(parts)


def filled_if_known(text: str, values: Mapping[str, str]) -> str | None:
    """The text with its placeholders replaced; None if there is no value for one of them."""
    parts = list(_split(text))
    for at in range(1, len(parts), 2):
        value = values.get(parts[at])
        if not value:
            return None
        parts[at] = value
    return "".join(parts)


@lru_cache(maxsize=1024)
def _split(text: str) -> tuple[str, ...]:
    """A text of a rule or a setting as literal texts and, between them, the names of placeholders."""
    return tuple(_PLACEHOLDER.split(text))


def link_values(note: Notification) -> dict[str, str]:
    """Values of the placeholders of a link."""
    where = note.where
    return {
        "incident": note.incident,
        "severity": note.severity,
        "namespace": where.namespace,
        "pod": where.pod,
        "container": where.container,
        "host": where.host,
        "first_ms": str(note.first // 1_000_000),
        "last_ms": str(note.last // 1_000_000),
    }
