"""What the types of the settings cannot say: settings that contradict each other, or would do harm."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sidecar import access, placeholders
from sidecar.connections import is_loopback

if TYPE_CHECKING:
    from sidecar.settings import Admin, HttpSource, Settings


def of(settings: "Settings") -> Iterator[str]:
    """What is wrong with these settings, each with its path and remedy."""
    sinks = settings.sinks
    if not (
        sinks.falcosidekick.url or sinks.stdout.enabled or sinks.file.path or sinks.webhook.url or sinks.grpc.address
    ):
        yield (
            "sinks: no sink is set, incidents would go nowhere; set sinks.falcosidekick.url "
            "(FALCO_CORRELATOR_SINKS__FALCOSIDEKICK__URL) or sinks.stdout.enabled"
        )
    for path, url in (
        ("sinks.falcosidekick.url", sinks.falcosidekick.url),
        ("sinks.webhook.url", sinks.webhook.url),
        ("pass_through.url", settings.pass_through.url),
    ):
        if url and not _is_http(url):
            yield f"{path}: expected http://host:port or https://host:port, got {url!r}"
        elif url and _is_own(url, settings.http):
            yield f"{path}: {url} is where this service takes its own alerts: they would run in a circle"
    yield from _source_mistakes(settings)
    yield from _server_mistakes(settings)


def _source_mistakes(settings: "Settings") -> Iterator[str]:
    http, grpc, admin = settings.http, settings.grpc, settings.admin
    if http.enabled:
        yield from access.mistakes(http)
    if not (http.enabled or grpc.enabled or settings.journal.path):
        yield "http.enabled, grpc.enabled, journal.path: none is set, so no alert can come in"
    for path, port in (("http.port", http.port), ("admin.port", admin.port)):
        if not 0 <= port <= 65_535:
            yield f"{path}: expected a port number up to 65535, got {port}"
    yield from _page_mistakes(admin)
    if http.enabled and admin.enabled and http.port and http.port == admin.port:
        yield "admin.port: is the same as http.port; alerts and administration need a port each"
    if grpc.enabled and not grpc.address.startswith("unix:") and not (grpc.ca and grpc.cert and grpc.key):
        yield "grpc.ca, grpc.cert, grpc.key: are all needed for a network address: Falco asks for a client certificate"


def _server_mistakes(settings: "Settings") -> Iterator[str]:
    served, where = settings.sinks.grpc, "sinks.grpc"
    for name in ("keep", "queue", "max_subscribers"):
        if getattr(served, name) < 1:
            yield f"{where}.{name}: expected at least 1, got {getattr(served, name)}"
    yield from access.tls_mistakes(served.tls, f"{where}.tls")
    if settings.grpc.enabled and settings.grpc.address == served.address:
        yield f"{where}.address: {served.address} is grpc.address too, where Falco is read: a circle"
    host, _, port = served.address.rpartition(":")
    if not served.address or served.address.startswith("unix:/"):
        return
    if not host or not port.isdecimal() or int(port) > 65_535:
        yield f"{where}.address: expected unix:///path or host:port, got {served.address!r}"
    elif not (served.tls.cert and served.tls.client_ca):
        yield from _open_port(host.strip("[]"), insecure=served.insecure)


def _open_port(host: str, *, insecure: bool) -> Iterator[str]:
    where = "sinks.grpc"
    if not is_loopback(host):
        yield (
            f"{where}.address: {host!r} can be reached by others: {where}.tls.cert, key and client_ca are all needed, "
            "or keep to unix:///path"
        )
    elif not insecure:
        yield (
            f"{where}.address: without {where}.tls (cert, key and client_ca) every process of the machine can read; "
            f"use unix:///path, or say {where}.insecure: true"
        )


def _page_mistakes(admin: "Admin") -> Iterator[str]:
    for words, url in admin.links.items():
        if "{" in url.partition("//")[2].partition("/")[0] or not _is_http(url):
            yield f"admin.links.{words}: expected http:// or https:// and a host, got {url!r}"
        yield from placeholders.mistakes(f"admin.links.{words}", url, placeholders.LINK)
    for name in admin.names:
        if not re.fullmatch(r"[A-Za-z0-9.-]+", name):
            yield f"admin.names: expected a host name without port, got {name!r}"


def _is_own(url: str, http: "HttpSource") -> bool:
    parts = urlsplit(url)
    reached = parts.hostname == http.host or (is_loopback(parts.hostname or "") and access.includes_loopback(http.host))
    return http.enabled and reached and parts.port == http.port


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
