"""A correlation rule as a person writes it in YAML: the types of each key, with their defaults."""

from typing import ClassVar, Literal

from msgspec import Struct, field

from sidecar.model import GroupKind, Severity
from sidecar.yamlfile.typed import Duration, lasting

Trait = Literal["interactive_shell", "dropped_program_connects", "names_secret", "reads_known_secret", "moves_data"]
"""What the fields of an alert can show without the help of a Falco rule."""


class GroupSpec(Struct, forbid_unknown_fields=True):
    """An activity group: the Falco rules (by tag or by name) and traits of a process that count for it."""

    RENAMED: ClassVar[dict[str, str]] = {"tell": "sentences"}

    tags: list[str] = []
    rules: list[str] = []
    stock: list[str] = []
    """Rules of others that see the same. They give way to the tagged ones, event by event."""
    traits: list[Trait] = []
    sticky: bool = False
    """Once seen it stays with the context, whatever the window."""
    kind: GroupKind = "evidence"
    """`credentials`: files named by its detections are listed as touched; `marker`: shown beside the evidence."""
    sentences: list[str] = []
    """Sentence endings describing what happened; the first one whose placeholders can all be filled is used."""


class LineageSpec(Struct, forbid_unknown_fields=True):
    """Alerts that are not evidence but show which process descends from which."""

    tags: list[str] = []
    rules: list[str] = []


class AnchorSpec(Struct, forbid_unknown_fields=True):
    """What an execution context hangs on: the service whose child gave a detection of `groups`."""

    groups: list[str]
    services: list[str] = []
    """Process names (a `*` may end one): the outermost of an unbroken chain of them is the context's anchor."""


class IncidentSpec(Struct, forbid_unknown_fields=True):
    """When an incident closes."""

    RENAMED: ClassVar[dict[str, str]] = {"quiet": "idle_timeout", "longest": "max_duration"}

    idle_timeout: Duration = lasting("1h")
    """How long after its last evidence."""
    max_duration: Duration = lasting("24h")
    """How long after its first evidence, at most."""


class CaseSpec(Struct, forbid_unknown_fields=True):
    """One row of the case table; the first row that holds is the case."""

    name: str
    severity: Severity
    when: str


class TriageStep(Struct, forbid_unknown_fields=True):
    """A next step in words, and the command for the place where the incident is."""

    do: str
    pod: str = ""
    container: str = ""
    host: str = ""


class AlertSpec(Struct, forbid_unknown_fields=True):
    """One alert of a test, in short; `sidecar.cli.stories` makes Falco's JSON of it."""

    process: str
    """From the first process down, `tini > php-fpm > sh`; `#2` after a name distinguishes siblings."""
    detect: list[str] = []
    rule: str = ""
    at: Duration = lasting("0s")
    host: bool = False
    container: str = "app"
    fields: dict[str, str | int] = {}


class Expected(Struct, forbid_unknown_fields=True):
    """One notification that a test wants to see."""

    severity: Severity
    case: str


class RuleTest(Struct, forbid_unknown_fields=True):
    """A story and the notifications it must give, in order; none means it must stay silent."""

    name: str
    alerts: list[AlertSpec]
    expect: list[Expected]


class RuleFile(Struct, forbid_unknown_fields=True):
    """A correlation rule as written in YAML."""

    id: str
    name: str
    groups: dict[str, GroupSpec]
    cases: list[CaseSpec]
    description: str = ""
    version: int = 1
    tags: list[str] = []
    scope: Literal["session", "container"] = "session"
    window: Duration = lasting("15m")
    incident: IncidentSpec = field(default_factory=IncidentSpec)
    lineage: LineageSpec = field(default_factory=LineageSpec)
    anchor: AnchorSpec | None = None
    triage: list[TriageStep] = []
    tests: list[RuleTest] = []
