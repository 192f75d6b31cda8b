"""Every setting of the service, typed, with its default: this file is the reference.

One YAML file holds them; each is also an environment variable, `http.port` being `FALCO_CORRELATOR_HTTP__PORT`, which
wins over the file.
"""

from typing import Literal

from msgspec import Struct, field

from sidecar.yamlfile.typed import Duration, lasting


class ServerTls(Struct, forbid_unknown_fields=True):
    """TLS of a port. The files are read anew when they change; open connections stay."""

    cert: str = ""
    """The certificate, with those between it and its authority; PEM."""
    key: str = ""
    """Its key, PEM."""
    client_ca: str = ""
    """Only clients with a certificate of this authority may speak (falco.yaml: http_output.mtls)."""
    allowed_names: list[str] = []
    """Of those only clients with one of these names (common name or alternative name); empty means all."""


class HttpSource(Struct, forbid_unknown_fields=True):
    """Alerts over Falco's `http_output` (Falco >= 0.44; also older)."""

    enabled: bool = True
    """Whether alerts are taken over HTTP."""
    host: str = "127.0.0.1"
    """Another address than loopback needs `tls.client_ca`, `secret_path` or `insecure`."""
    port: int = 2802
    """0 lets the system choose."""
    tls: ServerTls = field(default_factory=ServerTls)
    secret_path: str = ""
    """The only path that takes alerts, for example /4f1c...; every other is answered 404."""
    secret_path_file: str = ""
    """A file that holds the secret path (a Kubernetes Secret), read at the start."""
    insecure: bool = False
    """Take alerts from anybody on an address that others can reach."""
    max_connections: int = 64
    """That stay open, in all; one of them is kept for loopback. Beyond it a silent one makes room, or the new one is
    closed behind its answer."""
    max_per_peer: int = 8
    """The same for each address."""
    head_deadline: Duration = lasting("5s")
    """Within this the head of a request (and a TLS handshake) must be complete."""
    deadline: Duration = lasting("10s")
    """Within this its body must be."""


class GrpcSource(Struct, forbid_unknown_fields=True):
    """Alerts over Falco's gRPC output (Falco <= 0.43)."""

    enabled: bool = False
    """Whether Falco's gRPC output is read."""
    address: str = "unix:///run/falco/falco.sock"
    """`unix:///path` or `host:port`; the latter needs the three certificate files."""
    ca: str = ""
    """The authority of Falco's certificate, PEM."""
    cert: str = ""
    """Our certificate for Falco, PEM."""
    key: str = ""
    """Its key, PEM."""
    poll_min: Duration = lasting("20ms")
    """How soon Falco is asked again while it has alerts."""
    poll_max: Duration = lasting("500ms")
    """How late Falco is asked again while it has none; the pause doubles up to this."""


class JournalSource(Struct, forbid_unknown_fields=True):
    """Alerts from the file that Falco's `file_output` writes; beside http it closes the gap of a restart."""

    path: str = ""
    """The file; empty turns it off."""
    poll: Duration = lasting("250ms")
    """How often it is looked at while nothing comes."""


class PassThrough(Struct, forbid_unknown_fields=True):
    """Raw alerts on to Falcosidekick, unchanged and in order (alerts that came over http only)."""

    mode: Literal["others", "all", "none"] = "others"
    """`others`: all but our own `webrce_` detections, which are told inside incidents."""
    url: str = ""
    """Where to; empty means the url of the falcosidekick sink."""
    queue: int = 10_000
    """Alerts held while Falcosidekick is away; the oldest are dropped, and counted, beyond this."""


class StdoutSink(Struct, forbid_unknown_fields=True):
    """Incidents on standard output."""

    enabled: bool = False
    """Whether incidents are printed."""
    format: Literal["json", "text"] = "json"
    """One JSON line each, or as a person reads them."""


class FalcosidekickSink(Struct, forbid_unknown_fields=True):
    """Incidents to Falcosidekick."""

    url: str = ""
    """For example http://falcosidekick:2801; empty turns it off."""
    timeout: Duration = lasting("10s")
    """How long an answer is waited for, before it is tried again."""


class WebhookSink(Struct, forbid_unknown_fields=True):
    """Incidents to any HTTP endpoint, as the same JSON."""

    url: str = ""
    """Where to; empty turns it off."""
    headers: dict[str, str] = {}
    """Sent with each request, for example `Authorization`."""
    timeout: Duration = lasting("10s")
    """How long an answer is waited for, before it is tried again."""


class FileSink(Struct, forbid_unknown_fields=True):
    """Incidents appended to a file, one JSON line each."""

    path: str = ""
    """The file; empty turns it off. It may be rotated away by renaming."""


class GrpcSink(Struct, forbid_unknown_fields=True):
    """Incidents to whoever subscribes: as `falco.outputs.service`, Falco's gRPC output, and as `correlator.v1`."""

    address: str = ""
    """`unix:///path` or `host:port` to listen on; empty turns it off."""
    socket_for: Literal["owner", "group", "all"] = "owner"
    """Who may connect to the unix socket: the mode is 0600, 0660 or 0666."""
    tls: ServerTls = field(default_factory=ServerTls)
    """For `host:port`: `cert`, `key` and `client_ca` are all needed."""
    insecure: bool = False
    """Serve a loopback port without TLS: every process of the machine may read then."""
    alerts: Literal["none", "others", "all"] = "none"
    """Raw alerts too, to subscribers of `falco.outputs.service`; `others` leaves out our own `webrce_` detections."""
    keep: int = 200
    """Notifications that are kept in memory for those who come or come back."""
    replay: Duration = lasting("1h")
    """How old a kept notification may be to be given to a new subscriber, who then sees some of them again."""
    queue: int = 1_000
    """Incidents, and raw alerts, held for each subscriber; beyond it his oldest are dropped, and counted."""
    max_subscribers: int = 32
    """Streams at the same time; further ones are refused."""


class Sinks(Struct, forbid_unknown_fields=True):
    """Where incidents go. None at all is a mistake, and refused."""

    falcosidekick: FalcosidekickSink = field(default_factory=FalcosidekickSink)
    stdout: StdoutSink = field(default_factory=StdoutSink)
    file: FileSink = field(default_factory=FileSink)
    webhook: WebhookSink = field(default_factory=WebhookSink)
    grpc: GrpcSink = field(default_factory=GrpcSink)
    queue: int = 1_000
    """Notifications held for each sink while it is away."""


class Admin(Struct, forbid_unknown_fields=True):
    """Health, `/metrics` and the incident pages, on a port that never takes alerts, so it may be opened to probes."""

    enabled: bool = True
    """Whether there is such a port."""
    host: str = "127.0.0.1"
    """The address to listen on; `0.0.0.0` for probes and Prometheus."""
    port: int = 2812
    """0 lets the system choose."""
    pages: Literal["loopback", "everyone", "nobody"] = "loopback"
    """Who sees incidents (pages and `/api/v1`): there is no login, so by default only this machine, or with
    `kubectl port-forward` who may do that. `everyone` needs something in front that asks who it is."""
    names: list[str] = []
    """Host names under which the pages are reached besides localhost and addresses; others are refused, so that no
    web page can make a browser read incidents (DNS rebinding)."""
    links: dict[str, str] = {}
    """Links on an incident's page, words to URL: `Grafana: https://grafana.example/d/pod?var-pod={pod}`."""


class CanarySettings(Struct, forbid_unknown_fields=True):
    """A marker process that Falco must see; `falco_rules/canary_rules.yaml` has the rules for it."""

    enabled: bool = False
    """Whether the marker process is started. If it is not seen, the report *Correlator degraded* names the cause."""
    every: Duration = lasting("60s")
    """How often."""


class StateFile(Struct, forbid_unknown_fields=True):
    """What survives a restart: relevant alerts, open incidents, undelivered notifications."""

    path: str = ""
    """The SQLite file; empty keeps everything in memory. Nobody else may use it at the same time."""
    keep: Duration = lasting("25h")
    """How long relevant alerts are kept; an incident lives 24 h at most."""


class Redaction(Struct, forbid_unknown_fields=True):
    """Secrets in command lines are masked before they are kept or sent, as `***` and a keyed digest."""

    key: str = ""
    """The key of the digests. Empty means a new one at each start: equal secrets then look equal in one run only."""


class Settings(Struct, forbid_unknown_fields=True):
    """The whole settings file."""

    http: HttpSource = field(default_factory=HttpSource)
    grpc: GrpcSource = field(default_factory=GrpcSource)
    journal: JournalSource = field(default_factory=JournalSource)
    pass_through: PassThrough = field(default_factory=PassThrough)
    sinks: Sinks = field(default_factory=Sinks)
    admin: Admin = field(default_factory=Admin)
    state: StateFile = field(default_factory=StateFile)
    canary: CanarySettings = field(default_factory=CanarySettings)
    redaction: Redaction = field(default_factory=Redaction)
    supervisor: bool = True
    """Whether a parent process holds the ports and starts the service again when it dies, so that Falco only waits."""
    rules: list[str] = []
    """Correlation rule files or folders; `shipped` names the rules that ship with the service, and empty means them."""
    settle: Duration = lasting("5ms")
    """How long a notification waits for the other alerts of the same kernel event."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Logs are lines of JSON on standard error."""

    def listening_addresses(self) -> list[tuple[str, str, int]]:
        """Name, host and port of each TCP port that the service listens on."""
        ports = (("http", self.http), ("admin", self.admin))
        return [(name, port.host, port.port) for name, port in ports if port.enabled]
