"""An expectation file as written in YAML: each key with its type and default."""

from msgspec import Struct, field

from sidecar.rules.spec import AlertSpec


class PlaceSpec(Struct, forbid_unknown_fields=True):
    """Where an entry holds. Of each key that is given, one pattern must match; `*` stands for any characters."""

    images: list[str] = []
    """Repositories of container images, without tag: `*/library/postgres`. A leading `*/` may stand for nothing."""
    containers: list[str] = []
    """Names of containers."""
    namespaces: list[str] = []
    pods: list[str] = []


class EntrySpec(Struct, forbid_unknown_fields=True):
    """One behaviour that is normal: which program, how it is called, and by what it is seen."""

    id: str
    why: str
    """The reason, as people read it on an incident."""
    commands: list[str]
    """Whole commands. The first word is the program by its resolved file (`sh` for any shell), the others are its
    arguments. `*` stands for any characters of one word, `**` as the last word for any further words. Neither stands
    for an option, for `..`, nor, in code that is an argument (`sh -c`), for characters that a shell reads."""
    place: PlaceSpec | None = None
    """Instead of the file's."""
    service: list[str] = []
    """Names of programs, by their resolved files, one of which must be among the ancestors."""
    parent: list[str] = []
    """The same for the parent itself."""
    files: list[str] = []
    """Files that it opens. Without `files` and `remotes` the entry is about the start of the program alone."""
    remotes: list[str] = []
    """Far ends of its connections, `address:port`."""
    groups: list[str] = []
    """The activity groups that the entry may cover; by default all."""
    author: str = ""
    until: str = ""
    """The last day (UTC) on which it holds, `2027-03-31`; by default it has no end."""


class StepSpec(AlertSpec):
    """One alert of a story, as in the tests of a correlation rule, with what entries look at."""

    command: str = ""
    """The whole command, the program first: `sh -c wal-g wal-push pg_wal/1`."""
    exe: str = ""
    """Its resolved file; by default that of its first word in /usr/bin."""
    opens: str = ""
    """A file that it opens."""
    connects: str = ""
    """A far end that it connects to, `address:port`."""
    image: str = ""
    """The image; by default one that the file's place includes."""


class Story(Struct, forbid_unknown_fields=True):
    """What happened, alert by alert."""

    name: str
    alerts: list[StepSpec]


class ExpectationFile(Struct, forbid_unknown_fields=True):
    """What is normal for one product, with tests of both kinds."""

    product: str
    entries: list[EntrySpec]
    description: str = ""
    sources: list[str] = []
    """Where the product's documentation says so."""
    place: PlaceSpec = field(default_factory=PlaceSpec)
    silent: list[Story] = []
    """The product's own work: an incident without the entries, none with them."""
    attacks: list[Story] = []
    """Attacks on this product: each must raise an incident."""
