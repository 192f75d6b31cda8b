"""Every setting of the service, typed, with its default: this room is the reference.

One YAML file holds them; each is also an environment variable, `http.port` being `FALCO_CORRELATOR_HTTP__PORT`, which
takes precedence over the file.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Struct, field

from sidecar.settings.section import Count, HttpUrl, MayBeZero, Reloaded, SecretText, Section, is_url
from sidecar.settings.sinks import Sinks, SinkSettings
from sidecar.settings.sources import GrpcSourceSettings, HttpSourceSettings, JournalSourceSettings, SourceSettings
from sidecar.text import placeholders
from sidecar.text.redaction import added
from sidecar.text.redaction.patterns import Token
from sidecar.yamlfile.typed import Duration, lasting

_NAME = re.compile(r"(?=[^*{},]*[^*{},/\s])[^/\s]+")
_PATH = re.compile(r"/(?=[^\s]*[^*{},/\s])[^\s]*")


class PassThrough(Section):
    """Raw alerts forwarded to Falcosidekick, unchanged and in order (only those received over HTTP)."""

    mode: Literal["others", "all", "none"] = "others"
    """`others`: all but our own `webrce_` detections, which appear inside incidents; `all`; or `none`."""
    match: Literal["all", "first"] = "all"
    """What Falcosidekick gets of an event that several of Falco's rules match: `all` alerts, or the `first` only, as
    with `rule_matching: first` in Falco. Our own rules do not count."""
    url: HttpUrl = ""
    """Destination URL; defaults to sinks.falcosidekick.url."""
    queue_size: Count = 10_000
    """Number of alerts queued while Falcosidekick is unavailable; beyond it the oldest are dropped and counted."""


class Admin(Section):
    """Health, `/metrics` and the incident pages, on a port that never accepts alerts and so may be opened to probes."""

    enabled: bool = True
    """Open the administration port."""
    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for probes and Prometheus."""
    port: int = 2812
    """Port to listen on; 0 picks a free one."""
    pages: Annotated[Literal["loopback", "everyone", "nobody"], Reloaded()] = "loopback"
    """Who may see incidents (pages and `/api/v1`). There is no login, so the default is this machine only, which
    includes users of `kubectl port-forward`. `everyone` needs an authenticating proxy in front."""
    allowed_hosts: Annotated[list[str], Reloaded()] = []
    """Host names under which the pages may be requested, besides localhost and IP addresses; others are refused, so
    that no web page can make a browser read incidents (DNS rebinding)."""
    links: Annotated[dict[str, str], Reloaded()] = {}
    """Links on an incident's page, label to URL: `Grafana: https://grafana.example/d/pod?var-pod={pod}`."""

    def problems(self, path: str) -> Iterator[str]:
        """Ports that do not exist, links that are none, and names that are not host names."""
        if not 0 <= self.port <= 65_535:
            yield f"{path}.port: expected a port number up to 65535, got {self.port}"
        for label, url in self.links.items():
            if "{" in url.partition("//")[2].partition("/")[0] or not is_url(url):
                yield f"{path}.links.{label}: expected http:// or https:// and a host, got {url!r}"
            yield from placeholders.mistakes(f"{path}.links.{label}", url, placeholders.LINK)
        for name in self.allowed_hosts:
            if not re.fullmatch(r"[A-Za-z0-9.-]+", name):
                yield f"{path}.allowed_hosts: expected a host name without port, got {name!r}"


class CanarySettings(Section):
    """A marker process that Falco must report; `falco_rules/canary_rules.yaml` has the rules for it."""

    enabled: bool = False
    """Start the marker process. If Falco does not report it, *Correlator degraded* is sent with the likely cause."""
    interval: Duration = lasting("60s")
    """Interval between two marker processes."""


class StateFile(Section):
    """What survives a restart: relevant alerts, open incidents, undelivered notifications."""

    path: str = ""
    """SQLite file; empty keeps everything in memory. No other process may use it at the same time."""
    retention: Duration = lasting("25h")
    """How long relevant alerts are kept; an incident lasts 24 h at most."""


class SecretPattern(Struct, forbid_unknown_fields=True):
    """A kind of token of your own organisation; see `redaction.patterns`."""

    name: str
    pattern: str
    example: str


class Redaction(Section):
    """Secrets in command lines are masked before they are stored or sent, as `***` and a keyed digest."""

    key: SecretText = ""
    """Key of the digests. If empty, a new one is made at each start; equal secrets then look equal in one run only."""
    patterns: Annotated[list[SecretPattern], Reloaded()] = []
    """Tokens of your own to mask, each with `name`, `pattern`, and an `example` that the pattern must match. It is
    at least three fixed characters, followed by characters and classes (`[A-Za-z0-9]`, `\\w`, `\\d`) with bounded
    repetitions (`{32}`, `{20,40}`, `?`): `acme_[A-Za-z0-9]{32}`."""

    def tokens(self) -> list[Token]:
        """The patterns as the redactor takes them. Raises `added.BadPatternError`, which `problems` reports."""
        return [added.token(each.name, each.pattern, each.example) for each in self.patterns]

    def problems(self, path: str) -> Iterator[str]:
        """Patterns that would take too long, or miss their example."""
        yield from super().problems(path)
        for number, each in enumerate(self.patterns):
            try:
                added.token(each.name, each.pattern, each.example)
            except added.BadPatternError as error:
                yield f"{path}.patterns[{number}].pattern: {error}"


class AddedPrograms(Section):
    """Programs of your own, beside those of `falco_rules/programs.yaml`.

    `*` stands for any characters of a name or of one folder, `**` for folders, `{a,b}` for either.
    """

    services: Annotated[list[str], Reloaded()] = []
    """Base names of programs, or of the scripts, modules or main classes that an interpreter runs, that are services
    whatever they listen on: `acme-gateway`, `wsgi_main.py`."""
    runtimes: Annotated[list[str], Reloaded()] = []
    """The same of programs that are services if they listened, or if that cannot be known."""
    jobs: Annotated[list[str], Reloaded()] = []
    """The same of programs that serve nothing unless they were seen to listen, nor does what they start."""
    boundaries: Annotated[list[str], Reloaded()] = []
    """Whole paths of programs or scripts that let people or jobs in, so that the service above them did not start what
    is below: `/opt/acme/bin/job-agent`. Nobody but root may be able to write there."""

    def problems(self, path: str) -> Iterator[str]:
        """Entries that no program could match, and those that every program would."""
        yield from super().problems(path)
        for key in ("services", "runtimes", "jobs"):
            for number, name in enumerate(getattr(self, key)):
                if not _NAME.fullmatch(name) or not _is_balanced(name):
                    yield f"{path}.{key}[{number}]: expected the name of a file without its folder, got {name!r}"
        for number, name in enumerate(self.boundaries):
            if not _PATH.fullmatch(name) or not _is_balanced(name):
                yield f"{path}.boundaries[{number}]: expected a whole path, such as /opt/acme/bin/agent, got {name!r}"


def _is_balanced(name: str) -> bool:
    return not re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", name))


class Settings(Section):
    """The whole settings file."""

    http: HttpSourceSettings = field(default_factory=HttpSourceSettings)
    grpc: GrpcSourceSettings = field(default_factory=GrpcSourceSettings)
    journal: JournalSourceSettings = field(default_factory=JournalSourceSettings)
    pass_through: PassThrough = field(default_factory=PassThrough)
    sinks: Sinks = field(default_factory=Sinks)
    admin: Admin = field(default_factory=Admin)
    state: StateFile = field(default_factory=StateFile)
    canary: CanarySettings = field(default_factory=CanarySettings)
    redaction: Redaction = field(default_factory=Redaction)
    programs: AddedPrograms = field(default_factory=AddedPrograms)
    cluster: Annotated[str, Reloaded()] = ""
    """Name of the cluster, sent with every incident as `incident.cluster`."""
    url: Annotated[str, Reloaded()] = ""
    """Address of an incident's page as people reach it, sent as `incident.url`: a base address, to which
    `/incidents/ID` is added, or a template: `https://falco.example/{cluster}/{host}/incidents/{incident}`."""
    node: str = ""
    """Name of the node, for reports of the service about itself; empty means the host name, which is that of the pod in
    Kubernetes."""
    supervisor: bool = True
    """Run a parent process that holds the ports and restarts the service after a crash, so that Falco only waits."""
    rules: Annotated[list[str], Reloaded()] = []
    """Correlation rule files or folders; `shipped` stands for the rules that ship with the service, the default, and
    `shipped/crypto-mining` for one of them. A rule of your own replaces the one that ships under its id."""
    expectations: Annotated[list[str], Reloaded()] = []
    """Files or folders with what is normal where; `shipped` stands for those that ship with the service, the default.
    `none` alone turns them off."""
    coalesce: Annotated[Duration, MayBeZero(), Reloaded()] = lasting("5ms")
    """How long a notification waits for other alerts of the same kernel event."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Reloaded()] = "info"
    """Minimum level of log messages, which are JSON lines on standard error."""

    def problems(self, path: str) -> Iterator[str]:
        """An address of the page that is none, besides the mistakes of all sections."""
        yield from super().problems(path)
        if self.url and not is_url(re.sub(r"\{[a-z_]+\}", "x", self.url)):
            yield f"url: expected http:// or https:// and a host, got {self.url!r}"
        yield from placeholders.mistakes("url", self.url, placeholders.PAGE)
        if self.cluster != self.cluster.strip() or not self.cluster.isprintable():
            yield f"cluster: expected a name without blanks around it and control characters, got {self.cluster!r}"

    def sources(self) -> dict[str, SourceSettings]:
        """The sources in use, by name."""
        return {
            name: source
            for name, source in self.sections()
            if isinstance(source, SourceSettings) and source.configured()
        }

    def needs_openssl(self) -> bool:
        """Whether a source, a sink or pass-through needs Python's ssl module."""
        parts: list[SourceSettings | SinkSettings] = [*self.sources().values(), *self.sinks.configured().values()]
        return self.pass_through.url.lower().startswith("https:") or any(part.needs_openssl() for part in parts)

    def listening_addresses(self) -> list[tuple[str, str, int]]:
        """Name, host and port of each TCP port that the service listens on."""
        ports = (("http", self.http), ("admin", self.admin))
        return [(name, port.host, port.port) for name, port in ports if port.enabled]
