"""Which correlation rules care about an alert, and for which of their groups: one dictionary look-up a rule name.

Falco gives a rule the same tags each time it fires, so the answer for a (rule, tags) pair is worked out once.
"""

from collections.abc import Hashable, Sequence

from msgspec import Struct

from sidecar.alerts.canary import RULES as CANARIES
from sidecar.alerts.decode import Envelope
from sidecar.model import REPORTS
from sidecar.rules.rule import CorrelationRule

CACHED = 4096
"""Remembered (rule, tags) pairs. A Falco has a few hundred rules; beyond this somebody plays with names."""

LONGEST = 2048
"""Characters of a pair that is worth remembering."""


class Verdict(Struct, frozen=True):
    """What an alert means to us.

    `groups` pairs the index of a correlation rule with the mask of its groups, `stock` with that of groups for which
    it counts only where our own Falco rules do not see the same. `relevant` is also true for alerts that
    only teach lineage. A `building_block` is one of our own Falco rules: told inside incidents, not passed through.
    `own_incident` is a notification of ours that came back, a `canary` the marker process that we start every minute,
    `returned` any alert that a Falcosidekick had before us.
    """

    groups: tuple[tuple[int, int], ...] = ()
    stock: tuple[tuple[int, int], ...] = ()
    relevant: bool = False
    building_block: bool = False
    own_incident: bool = False
    returned: bool = False
    canary: bool = False

    @property
    def oddity(self) -> str:
        """The reason to count where the alert is one of ours, not Falco's about somebody."""
        return "own_incident" if self.own_incident else "canary" if self.canary else ""


NOTHING = Verdict()
"""Nobody cares: nineteen of twenty alerts."""


class Classifier:
    """Rule name and tags of a Falco alert -> Verdict."""

    def __init__(self, rules: Sequence[CorrelationRule]) -> None:
        self._rules = rules
        self._cases = frozenset(case.name for rule in rules for case in rule.cases)
        self._incident_tags = frozenset(tag for rule in rules for tag in rule.written.tags)
        self._known: dict[Hashable, Verdict] = {}

    def __call__(self, envelope: Envelope) -> Verdict:
        """What an alert means by its outside. Raises AlertError (`wrong_type`) if its tags are none."""
        label = envelope.label
        known = self._known.get(label)
        return known if known is not None else self._remember(label, envelope.rule, envelope.tags)

    def _remember(self, label: Hashable, rule: str, tags: tuple[str, ...]) -> Verdict:
        verdict = self.judge(rule, tags)
        if len(self._known) >= CACHED:
            self._known.clear()
        if len(rule) + sum(map(len, tags)) <= LONGEST:
            self._known[label] = verdict
        return verdict

    def judge(self, name: str, tags: tuple[str, ...]) -> Verdict:
        """What the rule name and the tags of a Falco alert mean."""
        if name in CANARIES:
            return Verdict(canary=True, building_block=True)
        if name in REPORTS:
            return Verdict(own_incident=True)
        if name in self._cases and (not self._incident_tags or self._incident_tags & set(tags)):
            return Verdict(own_incident=True)
        groups, stock, lineage, ours = [], [], False, False
        for index, rule in enumerate(self._rules):
            mask = rule.mask(
                group for group, spec in rule.written.groups.items() if name in spec.rules or set(tags) & set(spec.tags)
            )
            by_name = rule.mask(group for group, spec in rule.written.groups.items() if name in spec.stock) & ~mask
            if mask:
                groups.append((index, mask))
            if by_name:
                stock.append((index, by_name))
            lineage |= name in rule.written.lineage.rules or bool(set(tags) & set(rule.written.lineage.tags))
            ours |= any(set(tags) & set(spec.tags) for spec in rule.written.groups.values())
            ours |= bool(set(tags) & set(rule.written.lineage.tags))
        relevant = bool(groups) or bool(stock) or lineage
        verdict = Verdict(tuple(groups), tuple(stock), relevant=relevant, building_block=ours)
        return verdict if verdict != NOTHING else NOTHING
