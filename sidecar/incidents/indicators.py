"""What the detections of an incident name, and what to look for elsewhere: addresses, files, credentials."""

import re
from ipaddress import ip_address

from msgspec import Struct

from sidecar.correlation import narrative
from sidecar.model import Notification

_NAMED = re.compile(
    r"(?P<url>(?:https?|ftp|tcp)://[^\s\"'<>]{1,200})"
    r"|/dev/(?:tcp|udp)/(?P<device>[^\s/\"'<>]{1,100}/\d{1,5})"
    r"|(?<![\d.])(?P<ip>(?:\d{1,3}\.){3}\d{1,3})(?![\d.])(?:(?:['\"]?\s?[:,]\s?|\s)(?P<port>\d{1,5})(?![\w.]))?"
)
"""A URL, one of bash's network files, or an IPv4 address with its port if one follows: `("203.0.113.9", 9001)`."""


class Indicators(Struct, frozen=True):
    """Each without repetition, in the order of their first sight.

    `connections` were made or tried; `named` are addresses that stand in commands, contacted or not; `credentials` are
    files and addresses of secrets.
    """

    connections: list[str]
    files: list[str]
    credentials: list[str]
    named: list[str]

    @property
    def addresses(self) -> list[str]:
        """Connections and named addresses."""
        return list(dict.fromkeys((*self.connections, *self.named)))

    def all(self) -> list[str]:
        """Everything, addresses first."""
        return list(dict.fromkeys((*self.addresses, *self.credentials, *self.files)))


def indicators(note: Notification) -> Indicators:
    """What the detections of an incident name."""
    sensitive = {name for name, kind in note.row if kind == "credentials"}
    connections, files, credentials, named = (dict[str, None]() for _ in range(4))
    for detection, groups in note.timeline:
        remote = narrative.remote_of(detection.detail)
        if sensitive.intersection(groups):
            credentials[detection.detail or detection.cmdline] = None
        elif detection.detail:
            (connections if remote else files)[remote or detection.detail] = None
        named |= dict.fromkeys(addresses_in(detection.cmdline))
    return Indicators(list(connections), list(files), list(credentials), list(named))


def addresses_in(command: str) -> list[str]:
    """The remote addresses that a command names, as `HOST:PORT`, `HOST` or a URL; loopback is none."""
    found = []
    for match in _NAMED.finditer(command):
        if match["url"]:
            found.append(match["url"])
        elif match["device"]:
            found.append(match["device"].replace("/", ":"))
        elif _is_remote(match["ip"]):
            found.append(f"{match['ip']}:{match['port']}" if match["port"] else match["ip"])
    return found


def _is_remote(address: str) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return not (parsed.is_loopback or parsed.is_unspecified)
