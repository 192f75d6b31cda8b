"""The settings of the sinks: where incidents go.

A sink is a subclass of SinkSettings here, a field of `Sinks`, and the module `sidecar/sinks/FIELD.py` with its
`make_sink`. Whatever else depends on which sinks exist is derived from these.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from msgspec import field

from sidecar.net import addresses
from sidecar.net.admission import is_loopback
from sidecar.settings import extras
from sidecar.settings.section import Count, HttpUrl, SecretText, Section
from sidecar.settings.tls import ClientTls, ServerTls
from sidecar.yamlfile.typed import Duration, lasting

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class SinkSettings(Section):
    """What the settings of every sink answer."""

    def configured(self) -> bool:
        """Whether the sink is in use."""
        raise NotImplementedError

    def needs_openssl(self) -> bool:
        """Whether Python's ssl module is needed; a sink that never needs it says False and saves its memory."""
        return True

    def check_startable(self) -> None:
        """Raise OSError if the sink could not start, for example because its port is taken: `SETTING: REASON`."""


class HttpSinkSettings(SinkSettings):
    """A sink that posts to a URL."""

    url: HttpUrl = ""
    timeout: Duration = lasting("10s")
    tls: ClientTls = field(default_factory=ClientTls)

    def configured(self) -> bool:
        """Whether there is a URL."""
        return bool(self.url)

    def problems(self, path: str) -> Iterator[str]:
        """TLS without https, besides the mistakes of all sections."""
        yield from super().problems(path)
        if any(self.tls.files()) and not self.needs_openssl():
            yield f"{path}.tls: needs a URL that begins with https, got {self.url or 'none'}"

    def needs_openssl(self) -> bool:
        """For https."""
        return urlsplit(self.url).scheme == "https"


class FalcosidekickSinkSettings(HttpSinkSettings):
    """Incidents to Falcosidekick."""

    url: HttpUrl = ""
    """For example http://falcosidekick:2801; empty turns it off."""
    timeout: Duration = lasting("10s")
    """How long to wait for a response before trying again."""
    tls: ClientTls = field(default_factory=ClientTls)
    """Also for raw alerts that are passed through."""


class StdoutSinkSettings(SinkSettings):
    """Incidents on standard output."""

    enabled: bool = False
    """Print incidents."""
    format: Literal["json", "text"] = "json"
    """`json`: one line each; `text`: formatted for people."""

    def configured(self) -> bool:
        """Whether it is enabled."""
        return self.enabled

    def needs_openssl(self) -> bool:
        """Never."""
        return False


class FileSinkSettings(SinkSettings):
    """Incidents appended to a file, one JSON line each."""

    path: str = ""
    """File to append to; empty turns it off. It may be rotated by renaming it."""

    def configured(self) -> bool:
        """Whether there is a file."""
        return bool(self.path)

    def check_startable(self) -> None:
        """Raise OSError if the file is a directory, or its directory is missing."""
        path = Path(self.path)
        if path.is_dir():
            raise OSError(f"path: {path} is a directory; add the name of a file")
        if not path.parent.is_dir():
            raise OSError(f"path: there is no directory {path.parent}; create it, or mount one there")

    def needs_openssl(self) -> bool:
        """Never."""
        return False


class WebhookSinkSettings(HttpSinkSettings):
    """Incidents to any HTTP endpoint, as the same JSON."""

    url: HttpUrl = ""
    """URL to post to; empty turns it off."""
    headers: dict[str, SecretText] = {}
    """Headers sent with each request, for example `Authorization`."""
    timeout: Duration = lasting("10s")
    """How long to wait for a response before trying again."""

    def problems(self, path: str) -> Iterator[str]:
        """Headers that would break the request, or add another one."""
        yield from super().problems(path)
        for name, value in self.headers.items():
            if not HEADER_NAME.fullmatch(name):
                yield f"{path}.headers.{name!r}: is not the name of an HTTP header"
            if not (value.isascii() and value.isprintable()):
                yield f"{path}.headers.{name}: contains a control character, or one that is not ASCII"


class GrpcSinkSettings(SinkSettings):
    """Incidents to gRPC subscribers: as `falco.outputs.service`, Falco's gRPC output, and as `correlator.v1`."""

    address: str = ""
    """`unix:///path` or `host:port` to listen on; empty turns it off."""
    socket_mode: Literal["owner", "group", "all"] = "owner"
    """Who may connect to the unix socket: mode 0600, 0660 or 0666."""
    tls: ServerTls = field(default_factory=ServerTls)
    """For `host:port`: `cert`, `key` and `client_ca` are all needed."""
    insecure: bool = False
    """Serve a loopback port without TLS: every process on the machine can then read incidents."""
    alerts: Literal["none", "others", "all"] = "none"
    """Also send raw alerts to subscribers of `falco.outputs.service`; `others` leaves out our `webrce_` detections."""
    history_size: Count = 200
    """Number of notifications kept in memory for new and reconnecting subscribers."""
    history_age: Duration = lasting("1h")
    """Maximum age of a kept notification to be sent to a new subscriber, which may then see some of them twice."""
    queue_size: Count = 1_000
    """Number of incidents, and of raw alerts, queued per subscriber; beyond it the oldest are dropped and counted."""
    max_subscribers: Count = 32
    """Maximum number of concurrent streams; further ones are refused."""

    def configured(self) -> bool:
        """Whether there is an address to listen on."""
        return bool(self.address)

    def needs_openssl(self) -> bool:
        """Never: grpcio brings its own TLS."""
        return False

    def check_startable(self) -> None:
        """Raise OSError if nobody could listen on the address."""
        try:
            addresses.check(self.address)
        except OSError as error:
            raise OSError(f"address: {error}") from None

    def problems(self, path: str) -> Iterator[str]:
        """Whether gRPC is installed, and whether anything protects the port."""
        yield from super().problems(path)
        if self.configured():
            yield from extras.grpc_problems(path)
        host, _, port = self.address.rpartition(":")
        if not self.address or self.address.startswith("unix:/"):
            return
        if not host or not port.isdecimal() or int(port) > 65_535:
            yield f"{path}.address: expected unix:///path or host:port, got {self.address!r}"
        elif not (self.tls.cert and self.tls.client_ca):
            yield from self._unprotected(host.strip("[]"), path)

    def _unprotected(self, host: str, path: str) -> Iterator[str]:
        if not is_loopback(host):
            yield (
                f"{path}.address: {host!r} can be reached from other machines: {path}.tls.cert, key and client_ca are "
                "all needed, or use unix:///path"
            )
        elif not self.insecure:
            yield (
                f"{path}.address: without {path}.tls (cert, key and client_ca) every process on the machine can read "
                f"incidents; use unix:///path, or set {path}.insecure: true"
            )


class Sinks(Section):
    """Where incidents go. At least one sink is required."""

    falcosidekick: FalcosidekickSinkSettings = field(default_factory=FalcosidekickSinkSettings)
    stdout: StdoutSinkSettings = field(default_factory=StdoutSinkSettings)
    file: FileSinkSettings = field(default_factory=FileSinkSettings)
    webhook: WebhookSinkSettings = field(default_factory=WebhookSinkSettings)
    grpc: GrpcSinkSettings = field(default_factory=GrpcSinkSettings)
    queue_size: Count = 1_000
    """Number of notifications queued per sink while it is unavailable."""

    def configured(self) -> dict[str, SinkSettings]:
        """The sinks in use, by name."""
        return {name: sink for name, sink in self.sections() if isinstance(sink, SinkSettings) and sink.configured()}
