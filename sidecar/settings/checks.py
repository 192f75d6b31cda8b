"""What the types of the settings cannot say: settings that contradict each other, or would do harm."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from sidecar.net.admission import is_loopback
from sidecar.net.secret_path import read_secret_path
from sidecar.net.tls_context import server_context
from sidecar.settings.schema import Admin, HttpSource, ServerTls, Settings
from sidecar.text import placeholders

SHORTEST = 16
"""Characters of a secret path at least."""


def of(settings: Settings) -> Iterator[str]:
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


def _source_mistakes(settings: Settings) -> Iterator[str]:
    http, grpc, admin = settings.http, settings.grpc, settings.admin
    if http.enabled:
        yield from _http_mistakes(http)
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


def _server_mistakes(settings: Settings) -> Iterator[str]:
    served, where = settings.sinks.grpc, "sinks.grpc"
    for name in ("keep", "queue", "max_subscribers"):
        if getattr(served, name) < 1:
            yield f"{where}.{name}: expected at least 1, got {getattr(served, name)}"
    yield from _tls_mistakes(served.tls, f"{where}.tls")
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


def _page_mistakes(admin: Admin) -> Iterator[str]:
    for words, url in admin.links.items():
        if "{" in url.partition("//")[2].partition("/")[0] or not _is_http(url):
            yield f"admin.links.{words}: expected http:// or https:// and a host, got {url!r}"
        yield from placeholders.mistakes(f"admin.links.{words}", url, placeholders.LINK)
    for name in admin.names:
        if not re.fullmatch(r"[A-Za-z0-9.-]+", name):
            yield f"admin.names: expected a host name without port, got {name!r}"


def _is_own(url: str, http: HttpSource) -> bool:
    parts = urlsplit(url)
    reached = parts.hostname == http.host or (is_loopback(parts.hostname or "") and _includes_loopback(http.host))
    return http.enabled and reached and parts.port == http.port


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _http_mistakes(http: HttpSource) -> Iterator[str]:
    """What is wrong with these settings, each with its remedy."""
    yield from _tls_mistakes(http.tls, "http.tls")
    if http.secret_path and http.secret_path_file:
        yield "http.secret_path, http.secret_path_file: give only one of them"
    if http.secret_path:
        yield from _weak(http.secret_path, "http.secret_path")
    elif http.secret_path_file:
        yield from _unreadable(http.secret_path_file)
    knows_falco = http.tls.client_ca or http.secret_path or http.secret_path_file
    if not (is_loopback(http.host) or knows_falco or http.insecure):
        yield (
            f"http.host: {http.host!r} can be reached by others, who could forge alerts; set http.tls (cert, key and "
            "client_ca), or http.secret_path, or keep to 127.0.0.1; or say http.insecure: true if something else "
            "protects this port"
        )


def _tls_mistakes(tls: ServerTls, where: str) -> Iterator[str]:
    """What is wrong with the TLS settings at the path `where`."""
    if bool(tls.cert) != bool(tls.key):
        yield f"{where}.cert, {where}.key: are both needed for TLS"
    if tls.cert and tls.key:
        yield from _unusable(tls, where)
    if tls.client_ca and not tls.cert:
        yield f"{where}.client_ca: needs {where}.cert and {where}.key"
    if tls.allowed_names and not tls.client_ca:
        yield f"{where}.allowed_names: needs {where}.client_ca, which says whose certificates are believed"


def _includes_loopback(host: str) -> bool:
    """Whether who listens on this address can be reached from the same machine."""
    return host in ("", "0.0.0.0", "::") or is_loopback(host)  # noqa: S104 - it is asked, not bound


def _weak(path: str, where: str) -> Iterator[str]:
    if not path.startswith("/") or len(path) < SHORTEST or not path.isascii() or any(c in path for c in " ?#\t\r\n"):
        yield f"{where}: expected / and at least {SHORTEST - 1} letters and digits behind it, for example of `uuidgen`"


def _unusable(tls: ServerTls, where: str) -> Iterator[str]:
    try:
        server_context(tls.cert, tls.key, tls.client_ca)
    except OSError as error:
        yield f"{where}: {tls.cert}, {tls.key} and {tls.client_ca or 'no client_ca'} cannot be used: {error}"


def _unreadable(file: str) -> Iterator[str]:
    try:
        yield from _weak(read_secret_path(file), f"http.secret_path_file: {file}")
    except (OSError, UnicodeDecodeError) as error:
        yield f"http.secret_path_file: {file} cannot be read: {error}"
