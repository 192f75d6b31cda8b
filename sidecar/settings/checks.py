"""Checks across sections: settings that are each valid, and contradict each other."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from sidecar.net.admission import is_loopback
from sidecar.settings.schema import Settings
from sidecar.settings.section import Url, is_url, leaves
from sidecar.settings.sources import HttpSourceSettings


def validate(settings: Settings) -> Iterator[str]:
    """What is wrong with these settings, each as a sentence with the path and the remedy."""
    if not settings.sinks.configured():
        yield (
            "sinks: no sink is configured, so incidents would go nowhere; set sinks.falcosidekick.url "
            "(FALCO_CORRELATOR_SINKS__FALCOSIDEKICK__URL) or sinks.stdout.enabled"
        )
    if not settings.sources():
        yield "http.enabled, grpc.enabled, journal.path: none is set, so no alert can come in"
    yield from settings.problems("")
    yield from _circles(settings)
    http, admin = settings.http, settings.admin
    if http.enabled and admin.enabled and http.port and http.port == admin.port:
        yield "admin.port: is the same as http.port; alerts and administration need separate ports"


def _circles(settings: Settings) -> Iterator[str]:
    for leaf in leaves(settings):
        if leaf.has(Url) and is_url(leaf.value) and _is_own(leaf.value, settings.http):
            yield f"{'.'.join(leaf.keys)}: {leaf.value} is this service's own port for alerts, which makes a loop"
    served = settings.sinks.grpc.address
    if settings.grpc.enabled and settings.grpc.address == served:
        yield f"sinks.grpc.address: {served} is also grpc.address, where Falco is read, which makes a loop"


def _is_own(url: str, http: HttpSourceSettings) -> bool:
    parts = urlsplit(url)
    is_reached = parts.hostname == http.host or (is_loopback(parts.hostname or "") and _includes_loopback(http.host))
    return http.enabled and is_reached and parts.port == http.port


def _includes_loopback(host: str) -> bool:
    """Whether a port on this address can be reached from the same machine."""
    return host in ("", "0.0.0.0", "::") or is_loopback(host)  # noqa: S104 - compared, not bound
