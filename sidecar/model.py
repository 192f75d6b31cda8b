"""The nouns that every room of the service speaks: alert, detection, execution context, incident.

An `Alert` is the normal form: whatever transport brought it, the same alert looks the same. Absent values are None;
Falco writes them as null, "" or "<NA>" depending on the transport. Times are integer nanoseconds since 1970, UTC.
"""

from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import astuple

Severity = Literal["low", "medium", "high", "critical"]

RANK: dict[str, int] = {"low": 1, "medium": 2, "high": 3, "critical": 4}
"""How severe a severity is, for comparison."""

PRIORITY: dict[str, str] = {"low": "Notice", "medium": "Warning", "high": "Error", "critical": "Critical"}
"""Falco's word for each severity (the one of Falco's eight that Falcosidekick's outputs map back the same way)."""

FALCO_PRIORITIES = frozenset(
    ("Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Informational", "Info", "Debug"),
)
"""Falco's eight, and the short form that Falcosidekick takes too."""

REJECTIONS: dict[str, str] = {
    "not_json": "It cannot be parsed.",
    "text_mode": "It is text: `json_output` is off.",
    "not_an_object": "It is JSON, but not an object.",
    "too_deep": "It is nested too deeply.",
    "wrong_type": "Its rule, time, tags or output fields have the wrong type.",
    "no_rule": "It names no rule.",
    "no_output_fields": "It has no output fields: `json_include_output_fields_property` is off, or they are empty.",
    "bad_time": "It has no valid time.",
    "internal": "Falco reports on itself: a heartbeat, or dropped events.",
    "canary": "It is about the marker process that this service starts.",
    "own_incident": "It is an incident or a report of this service that came back.",
    "duplicate": "It was received before.",
    "no_process": "It has no `proc.pid`, so it has no execution context; `append_output` adds it.",
    "broken": "A bug in this service; the log has the traceback.",
}
"""Why an alert was not correlated, with the meaning for the reference. A fixed set: the keys are metric labels."""

ANOMALIES: dict[str, str] = {
    "bad_utf8": "Invalid UTF-8 in it was replaced.",
    "bad_field": "An output field has a value of the wrong type; the alert is used without that field.",
    "unknown_priority": "Its priority is none of Falco's eight.",
    "future_time": "Its time is more than 120 s ahead of this machine's clock.",
    "via_falcosidekick": "A Falcosidekick had it first, so it is not passed through.",
}
"""What was odd about an alert that was correlated all the same. A fixed set like REJECTIONS."""

GroupKind = Literal["evidence", "credentials", "marker"]
"""What an activity group is for a reader: evidence, credentials that were touched, or a marker beside the evidence."""

Join = Literal["ancestry", "lineage", "session", "orphan", "container"]
"""How a detection came into its context. `ancestry` is lineage as our Falco plugin saw it happen. `container` is the
wide scope, chosen or fallen back to under pressure."""

Confidence = Literal["low", "medium", "high"]

CONFIDENCE: dict[Join, Confidence] = {
    "ancestry": "high",
    "lineage": "high",
    "session": "medium",
    "container": "medium",
    "orphan": "low",
}
"""How certain it is that a detection belongs to its context; ancestry and lineage are facts."""

MAX_COMMAND_CHARS = 512
"""Characters of a command line or a file name: sinks and pages show 500."""

MAX_NAME_CHARS = 256
"""Characters of every other text: names of hosts, processes, containers, images and rules."""

MAX_PACKED_CHARS = 6144
"""Characters of the packed field: sixteen ancestors with the longest executables that the plugin keeps."""


class Fields(
    Struct,
    gc=False,
    eq=False,
    omit_defaults=True,  # a kept alert takes a third of the space
    rename={
        "container_id": "container.id",
        "container_name": "container.name",
        "image": "container.image.repository",
        "image_tag": "container.image.tag",
        "namespace": "k8s.ns.name",
        "pod": "k8s.pod.name",
        "evt_type": "evt.type",
        "pid": "proc.pid",
        "start": "proc.pid.ts",
        "vpid": "proc.vpid",
        "ppid": "proc.ppid",
        "parent_start": "proc.ppid.ts",
        "pvpid": "proc.pvpid",
        "apid2": "proc.apid[2]",
        "apid3": "proc.apid[3]",
        "apid4": "proc.apid[4]",
        "apid5": "proc.apid[5]",
        "apid6": "proc.apid[6]",
        "name": "proc.name",
        "pname": "proc.pname",
        "aname1": "proc.aname[1]",
        "aname2": "proc.aname[2]",
        "aname3": "proc.aname[3]",
        "aname4": "proc.aname[4]",
        "aname5": "proc.aname[5]",
        "aname6": "proc.aname[6]",
        "sid": "proc.sid",
        "tty": "proc.tty",
        "exepath": "proc.exepath",
        "cmdline": "proc.cmdline",
        "user": "user.name",
        "uid": "user.uid",
        "loginuid": "user.loginuid",
        "file": "fd.name",
        "remote_ip": "fd.sip",
        "remote_port": "fd.sport",
        "address": "evt.arg.addr",
        "fallback_remote_ip": "fd.rip",
        "fallback_remote_port": "fd.rport",
        "fallback_file": "fs.path.target",
        "pexepath": "proc.pexepath",
        "aexepath2": "proc.aexepath[2]",
        "aexepath3": "proc.aexepath[3]",
        "aexepath4": "proc.aexepath[4]",
        "aexepath5": "proc.aexepath[5]",
        "aexepath6": "proc.aexepath[6]",
        "exe": "proc.exe",
        "cwd": "proc.cwd",
        "stdin_type": "proc.stdin.type",
        "is_upper": "proc.is_exe_upper_layer",
        "device": "fd.dev",
        "inode": "fd.ino",
        "is_file_upper": "fd.is_upper_layer",
        "packed": "lineage.packed",
        "pcmdline": "proc.pcmdline",
        "acmdline2": "proc.acmdline[2]",
        "acmdline3": "proc.acmdline[3]",
        "acmdline4": "proc.acmdline[4]",
        "pgid": "proc.pgid",
    },
):
    """The output fields of Falco that correlation and notifications use; Falco's names are in `rename`.

    Start times (`proc.pid.ts`, `proc.ppid.ts`) are nanoseconds; 0 and None mean unknown. `remote_ip` and `remote_port`
    are the far end of a connection (`fd.rip` is the near end wherever Falco does not know the container's address).
    Of a refused connection Falco shows only `address`; decoding fills the two from it. `exe` is argv[0]. `is_upper` and
    `is_file_upper` say whether the program's file, and the file of the event, were written or changed since the
    container was made. `device` (hexadecimal) and `inode` are those of the file, whatever its name.

    `fallback_NAME` is read where NAME has no value, and decoding moves it there: a field that held NAME in alerts of
    older rules, so that rules and service can be upgraded in any order, or one that holds it for some events (the
    target of a link). `packed` is the packed field of our Falco plugin (`sidecar.alerts.ancestry`); decoding fills
    other fields from it where those are absent. Of the command lines of ancestors only script and subcommand are kept
    (`meaning.command_summary`). New fields go to the end: a state file keeps waiting alerts by position.
    """

    container_id: str | None = None
    container_name: str | None = None
    image: str | None = None
    image_tag: str | None = None
    namespace: str | None = None
    pod: str | None = None
    evt_type: str | None = None
    pid: int | None = None
    start: int | None = None
    vpid: int | None = None
    ppid: int | None = None
    parent_start: int | None = None
    pvpid: int | None = None
    apid2: int | None = None
    apid3: int | None = None
    apid4: int | None = None
    apid5: int | None = None
    apid6: int | None = None
    name: str | None = None
    pname: str | None = None
    aname1: str | None = None
    aname2: str | None = None
    aname3: str | None = None
    aname4: str | None = None
    aname5: str | None = None
    aname6: str | None = None
    sid: int | None = None
    tty: int | None = None
    exepath: str | None = None
    cmdline: str | None = None
    user: str | None = None
    uid: int | None = None
    loginuid: int | None = None
    file: str | None = None
    remote_ip: str | None = None
    remote_port: int | None = None
    address: str | None = None
    fallback_remote_ip: str | None = None
    fallback_remote_port: int | None = None
    fallback_file: str | None = None
    pexepath: str | None = None
    aexepath2: str | None = None
    aexepath3: str | None = None
    aexepath4: str | None = None
    aexepath5: str | None = None
    aexepath6: str | None = None
    exe: str | None = None
    cwd: str | None = None
    stdin_type: str | None = None
    is_upper: bool | None = None
    device: str | None = None
    inode: int | None = None
    is_file_upper: bool | None = None
    packed: str | None = None
    pcmdline: str | None = None
    acmdline2: str | None = None
    acmdline3: str | None = None
    acmdline4: str | None = None
    pgid: int | None = None

    def __eq__(self, other: object) -> bool:
        """Decoding gives a subclass with bounded lengths: the same fields all the same."""
        return isinstance(other, Fields) and astuple(self) == astuple(other)

    __hash__ = None  # type: ignore[assignment]


PACKED = "lineage.packed"
"""The field of our Falco plugin. Falco without the plugin can fill it in with `sidecar.alerts.ancestry.GUESS`."""

FALLBACKS = tuple(
    (name, name.removeprefix("fallback_")) for name in Fields.__struct_fields__ if name.startswith("fallback_")
)
"""Fields that are read where another has no value, each with that other."""

ASKED = tuple(
    falco
    for name, falco in zip(Fields.__struct_fields__, Fields.__struct_encode_fields__, strict=True)
    if not name.startswith("fallback_") and falco != PACKED and not falco.endswith(".ts")
)
"""Falco's names of the fields that we ask it to put into every alert. The packed field comes on top: it alone has the
start times, since Elasticsearch refuses `proc.pid` and `proc.pid.ts` beside each other. Rules, configurations, the
overlays of the chart, README and `doctor` are made of this list by `make docs`."""

APPENDED = tuple(
    name
    for name in ASKED
    if name not in ("proc.name", "proc.pname", "proc.sid", "proc.tty", "proc.exepath", "proc.pexepath", "proc.vpid")
    and not name.startswith(("proc.pid", "proc.ppid", "proc.apid", "proc.aname", "proc.aexepath", "user.loginuid"))
)
"""What Falco appends to the alerts of every rule beside the packed field: what that does not hold."""


class Alert(Struct, frozen=True, gc=False):
    """One Falco rule that fired, in normal form. `time` is the kernel event's, in nanoseconds."""

    time: int
    host: str
    rule: str
    tags: tuple[str, ...]
    fields: Fields

    @property
    def container(self) -> str:
        """The container id, "" on the host itself (Falco says `host`, nothing, or `<NA>` there)."""
        cid = self.fields.container_id
        return "" if not cid or cid == "host" else cid


class Detection(Struct, frozen=True, gc=False):
    """An alert that a correlation rule cares about, placed in an execution context.

    `groups` is a bit mask over the correlation rule's groups; `path` names the processes from the detection's own,
    which is always there, up to the context's anchor; `detail` is the file or the connection that the alert was about.
    """

    time: int
    rule: str
    groups: int
    join: Join
    path: tuple[tuple[int, str], ...]
    cmdline: str
    detail: str
    numbers: tuple[int, int, int, int] = (0, 0, 0, 0)
    """The process's pid in its container and its start (ns), then those of its parent; 0 if unknown."""
    expected: str = ""
    """The id of the expectation that it is; it counts for no group then."""
    packed: bytes = b""
    """The alert (`packed_alert`), for pages; empty where memory or disk was short."""


class Span(Struct, gc=False):
    """When the evidence of one group was seen: first and last event time (ns), and how often."""

    first: int
    last: int
    count: int = 1

    def join(self, other: "Span") -> None:
        """Take in the sightings of another."""
        if other.first < self.first:
            self.first = other.first
        if other.last > self.last:
            self.last = other.last
        self.count += other.count


class Where(NamedTuple):
    """The place of an incident, as a person names it. Every part may be "" when Falco did not say."""

    host: str
    container: str
    container_name: str
    image: str
    namespace: str
    pod: str


class Report(Struct, frozen=True, gc=False):
    """What the service has to say about itself: it goes to the sinks like a notification, but is not an incident."""

    case: str
    severity: Severity
    text: str
    where: Where
    time: int


class Notification(Struct, frozen=True, gc=False):
    """One step of one incident: all that a sink needs, and nothing that changes later.

    `step` counts from 1; `came_from` is the severity of the step before, "" at the first. `groups` is in the order of
    the correlation rule. `fields` are those of the detection that decided the step. Times are nanoseconds. `summary`
    says in a sentence what happened; `row` names every group of the rule with its kind; the incident is open until
    `closes`, unless more evidence comes.
    """

    incident: str
    previous: str
    step: int
    correlation_rule: str
    case: str
    severity: Severity
    came_from: str
    groups: tuple[str, ...]
    tags: tuple[str, ...]
    where: Where
    first: int
    last: int
    count: int
    incomplete: bool
    timeline: tuple[tuple[Detection, tuple[str, ...]], ...]
    rules: tuple[str, ...]
    fields: Fields
    triage: tuple[tuple[str, str], ...]
    summary: str = ""
    row: tuple[tuple[str, GroupKind], ...] = ()
    closes: int = 0


GRPC_INTERNAL_SOURCE = 2
"""The number of `internal` in the enum of event sources of Falco's gRPC interface."""

GRPC_READER = "falco-correlator/source"
"""How our gRPC source names itself, so that our own gRPC server can refuse it: alerts would loop."""

Message = Notification | Report
"""What sinks accept."""


class Outgoing(NamedTuple):
    """A message for one sink: its delivery key, its JSON, itself (None if decided before a restart), its container."""

    key: str
    body: bytes
    message: Message | None = None
    place: str = ""

    @property
    def sink(self) -> str:
        """The name of the sink, which is the last part of the key."""
        return self.key.rpartition(":")[2]


def delivery_key(message: Message, sink: str) -> str:
    """One key for each incident, step and sink: a receiver that sees it twice saw the same notification.

    A step is named by its severity, which only rises, so replaying the alerts after a crash gives it the same name.
    """
    name = message.case if isinstance(message, Report) else message.incident
    step = message.time if isinstance(message, Report) else message.severity
    return f"{name}:{step}:{sink}"


MORE_INCIDENTS = "More incidents in one place"
"""The `case` of a report that summarizes incidents of a container that has too many to send each."""

REPORTS = frozenset(("Correlator under pressure", "Correlator degraded", MORE_INCIDENTS))
"""The `case` of every report: Falcosidekick makes a label of it, so there are few."""
