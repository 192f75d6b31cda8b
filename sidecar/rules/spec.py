"""A correlation rule as written in YAML: each key with its type and default."""

from typing import ClassVar, Literal

from msgspec import Struct, field

from sidecar.model import GroupKind, Severity
from sidecar.yamlfile.typed import Duration, lasting

Trait = Literal[
    "interactive_shell",
    "dropped_program_connects",
    "names_secret",
    "reads_known_secret",
    "moves_data",
    "connects_as_named",
]
"""What the fields of an alert can show without the help of a Falco rule."""


AnchorKind = Literal["service", "package_install", "ci_job"]


class GroupSpec(Struct, forbid_unknown_fields=True):
    """An activity group: the Falco rules (by tag or by name) and process traits that count for it."""

    RENAMED: ClassVar[dict[str, str]] = {"tell": "sentences"}

    tags: list[str] = []
    rules: list[str] = []
    stock: list[str] = []
    """Rules by others that detect the same. One of these is ignored when a tagged rule fires for the same event."""
    traits: list[Trait] = []
    sticky: bool = False
    """Once seen, it counts as long as the context exists, whatever the window."""
    kind: GroupKind = "evidence"
    """`credentials`: files that its detections name are listed as touched; `marker`: shown beside the evidence."""
    sentences: list[str] = []
    """Sentence endings describing what happened; the first one whose placeholders can all be filled is used."""


class LineageSpec(Struct, forbid_unknown_fields=True):
    """Falco rules whose alerts are not evidence, but show which process descends from which."""

    tags: list[str] = []
    rules: list[str] = []


class AnchorSpec(Struct, forbid_unknown_fields=True):
    """What an execution context is anchored at: the service whose child caused a detection of `groups`."""

    groups: list[str] = []
    """Empty means all."""
    kind: AnchorKind | None = None
    """What must be above a detection of `groups`, or it means nothing (`falco_rules/programs.yaml` has the programs):
    `service`; `package_install`, a package manager that installs; `ci_job`, an agent of a CI system."""
    standalone: list[str] = []
    """Falco rules whose detections mean something wherever they come from, all the same."""
    services: list[str] = []
    """Process names, which may end in `*`: the outermost of an unbroken chain of them is the anchor."""


class IncidentSpec(Struct, forbid_unknown_fields=True):
    """When an incident closes."""

    RENAMED: ClassVar[dict[str, str]] = {"quiet": "idle_timeout", "longest": "max_duration"}

    idle_timeout: Duration = lasting("1h")
    """Time after its last evidence."""
    max_duration: Duration = lasting("24h")
    """Maximum time after its first evidence."""


class CaseSpec(Struct, forbid_unknown_fields=True):
    """A row of the case table. The first row whose condition is true is the case."""

    name: str
    severity: Severity
    when: str


class TriageStep(Struct, forbid_unknown_fields=True):
    """A next step in words, with a command for each kind of place."""

    do: str
    pod: str = ""
    container: str = ""
    host: str = ""
    instead: str = ""
    """What to do where the command cannot be given because something in it is unknown."""


class AlertSpec(Struct, forbid_unknown_fields=True):
    """One alert of a test, in short form; `sidecar.cli.testing.stories` expands it to Falco's JSON."""

    process: str
    """Processes from the first one down, `tini > php-fpm > sh`; `#2` after a name distinguishes siblings."""
    detect: list[str] = []
    rule: str = ""
    at: Duration = lasting("0s")
    host: bool = False
    container: str = "app"
    fields: dict[str, str | int] = {}


class Expected(Struct, forbid_unknown_fields=True):
    """One notification that a test expects."""

    severity: Severity
    case: str


class RuleTest(Struct, forbid_unknown_fields=True):
    """A story and the notifications that it must cause, in order; none means silence."""

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
    tags: list[str] = []
    scope: Literal["session", "container"] = "session"
    window: Duration = lasting("15m")
    incident: IncidentSpec = field(default_factory=IncidentSpec)
    lineage: LineageSpec = field(default_factory=LineageSpec)
    anchor: AnchorSpec | None = None
    triage: list[TriageStep] = []
    tests: list[RuleTest] = []
