"""A correlation rule as the engine uses it: groups are bits of a mask, and the case table is a look-up."""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property

from msgspec import Struct

from sidecar.model import RANK, Severity
from sidecar.rules.counters import Counter
from sidecar.rules.spec import AnchorSpec, RuleFile

_FALCO_TAG = re.compile(
    r"(maturity|mitre|PCI_DSS|NIST|CIS)_.*|TA?\d{4}(\.\d{3})?|cis|host|container|k8s|k8s_audit|aws|process|network|shell"
    r"|filesystem|users|database|software_mgmt|file_integrity|admin",
    re.IGNORECASE,
)
"""Tags that Falco's own rules carry, by the families of its rules style guide. They must be listed, because any Falco
rule may have them: the alert of a rule with no other tag than these is not one of ours (a test checks stock rules)."""


class Case(Struct, frozen=True):
    """A compiled row of the case table."""

    name: str
    severity: Severity
    rank: int


class CorrelationRule:
    """A rule ready to run. `outcomes[mask]` is the index of the case for a bit mask of groups, -1 for none.

    `counters` have the bits behind those of the groups.
    """

    def __init__(
        self, written: RuleFile, outcomes: Sequence[int], where: str = "", counters: Sequence[Counter] = ()
    ) -> None:
        self.written = written
        self.where = where
        self.id = written.id
        self.name = written.name
        self.groups = tuple(written.groups)
        self.outcomes = tuple(outcomes)
        self.cases = tuple(Case(case.name, case.severity, RANK[case.severity]) for case in written.cases)
        self.counters = tuple(counters)
        self.counted = self.mask({name for counter in counters for name in counter.groups})
        """The groups whose detections are counted by their values."""
        self.window = int(written.window)
        self.idle_timeout = int(written.incident.idle_timeout)
        self.max_duration = int(written.incident.max_duration)
        self.wide = written.scope == "container"
        self.sticky = self.mask(name for name, group in written.groups.items() if group.sticky)
        self.credentials = self.mask(name for name, group in written.groups.items() if group.kind == "credentials")
        self.markers = self.mask(name for name, group in written.groups.items() if group.kind == "marker")
        self._set_anchor(written.anchor or AnchorSpec())
        self.deeds = self.mask(self.groups) & ~self.anchoring & ~self.markers
        """The groups of what is done below an anchor."""
        self._names: dict[int, tuple[str, ...]] = {}

    def _set_anchor(self, anchor: AnchorSpec) -> None:
        self.below_service = anchor.kind == "service"
        self.context_kind = "" if anchor.kind == "service" else anchor.kind or ""
        """The kind of program below which alone its detections mean something, "" if any; services stand apart."""
        self.standalone = frozenset(anchor.standalone)
        self.anchoring = self.mask(anchor.groups or self.groups)
        self.renewed = 0 if self.wide or self.context_kind else self.anchoring
        """The groups that count as long as their context has evidence: a web shell is there until it is removed."""

    def mask(self, names: Iterable[str]) -> int:
        """The bits of these groups."""
        return sum(1 << self.groups.index(name) for name in names)

    @cached_property
    def counter_bits(self) -> tuple[tuple[int, Counter, int], ...]:
        """Each counter with its bit and the mask of its groups."""
        first = len(self.groups)
        return tuple((bit, counter, self.mask(counter.groups)) for bit, counter in enumerate(self.counters, first))

    def needs(self, mask: int) -> tuple[str, ...]:
        """The groups and counters in a mask, in words."""
        counters = (str(counter) for bit, counter, _ in self.counter_bits if mask >> bit & 1)
        return (*self.named(mask), *counters)

    def named(self, mask: int) -> tuple[str, ...]:
        """The names of the groups in a mask, in the order of the rule."""
        names = self._names.get(mask)
        if names is None:
            names = self._names[mask] = tuple(name for bit, name in enumerate(self.groups) if mask >> bit & 1)
        return names

    def is_service(self, name: str) -> bool:
        """Whether a process of this name is a service at which contexts are anchored."""
        return name in self._exact or name.startswith(self._prefixes)

    @cached_property
    def own_tags(self) -> frozenset[str]:
        """The tags that mark Falco rules written for this correlation rule: not `mitre_persistence`, for example."""
        tags = [*self.written.lineage.tags, *(tag for group in self.written.groups.values() for tag in group.tags)]
        return frozenset(tag for tag in tags if not _FALCO_TAG.fullmatch(tag))

    @cached_property
    def stock(self) -> frozenset[str]:
        """The Falco rules of others that count: each sees one thing, whatever groups it counts for."""
        return frozenset(name for group in self.written.groups.values() for name in group.stock)

    @cached_property
    def trait_bits(self) -> tuple[tuple[str, int], ...]:
        """Each trait with the mask of the groups that it counts for."""
        groups = self.written.groups.items()
        return tuple((trait, self.mask([name])) for name, group in groups for trait in group.traits)

    @cached_property
    def _exact(self) -> frozenset[str]:
        return frozenset(name for name in self._services if not name.endswith("*"))

    @cached_property
    def _prefixes(self) -> tuple[str, ...]:
        return tuple(name[:-1] for name in self._services if name.endswith("*"))

    @cached_property
    def _services(self) -> list[str]:
        return self.written.anchor.services if self.written.anchor else []
