"""Which correlation rules care about an alert, and for which of their groups: one dictionary look-up per Falco rule.

Falco gives a rule the same tags each time it fires, so the verdict for a pair of rule and tags is worked out once.
"""

from collections.abc import Hashable, Sequence

from msgspec import Struct

from sidecar.alerts.canary import RULES as CANARIES
from sidecar.alerts.decode import Envelope
from sidecar.model import REPORTS
from sidecar.rules.rule import CorrelationRule

MAX_ENTRIES = 4096
"""Pairs of rule and tags that are kept. A Falco has a few hundred rules; more means that names are varied."""

MAX_LABEL_CHARS = 2048
"""Characters of a pair that is worth keeping."""


class Verdict(Struct, frozen=True):
    """What an alert means to us.

    `groups` pairs the index of a correlation rule with the bit mask of its groups; `fallback_groups` does so for the
    groups for which a stock Falco rule counts where ours did not decide about the same event. `teaches` has the other
    correlation rules, for which it shows only lineage.

    `is_own_detection` marks alerts of our own Falco rules: they appear inside incidents and are not passed through.
    `is_own_incident` is a notification of ours that came back, `is_canary` an alert about the marker process that we
    start every minute, `via_falcosidekick` an alert that a Falcosidekick forwarded to us.
    """

    groups: tuple[tuple[int, int], ...] = ()
    fallback_groups: tuple[tuple[int, int], ...] = ()
    teaches: tuple[tuple[int, int], ...] = ()
    relevant: bool = False
    is_own_detection: bool = False
    is_own_incident: bool = False
    via_falcosidekick: bool = False
    is_canary: bool = False

    @property
    def own_alert_reason(self) -> str:
        """The reason to count for an alert that is our own, not Falco's about another process; "" for all others."""
        return "own_incident" if self.is_own_incident else "canary" if self.is_canary else ""


NOTHING = Verdict()
"""No correlation rule cares: ninety-eight of a hundred alerts."""


class Classifier:
    """Maps rule name and tags of a Falco alert to a Verdict."""

    def __init__(self, rules: Sequence[CorrelationRule]) -> None:
        self._rules = rules
        self._cases = frozenset(case.name for rule in rules for case in rule.cases)
        self._incident_tags = frozenset(tag for rule in rules for tag in rule.written.tags)
        self._verdicts: dict[Hashable, Verdict] = {}

    def __call__(self, envelope: Envelope) -> Verdict:
        """What an alert means, judged by its envelope.

        Raises:
            AlertError: `wrong_type`, its tags are not a list of strings.
        """
        label = envelope.label
        verdict = self._verdicts.get(label)
        return verdict if verdict is not None else self._store(label, envelope.rule, envelope.tags)

    def _store(self, label: Hashable, rule: str, tags: tuple[str, ...]) -> Verdict:
        verdict = self.classify(rule, tags)
        if len(self._verdicts) >= MAX_ENTRIES:
            self._verdicts.clear()
        if len(rule) + sum(map(len, tags)) <= MAX_LABEL_CHARS:
            self._verdicts[label] = verdict
        return verdict

    def classify(self, name: str, tags: tuple[str, ...]) -> Verdict:
        """What the rule name and the tags of a Falco alert mean."""
        if name in CANARIES:
            return Verdict(is_canary=True, is_own_detection=True)
        if name in REPORTS:
            return Verdict(is_own_incident=True)
        if name in self._cases and (not self._incident_tags or self._incident_tags & set(tags)):
            return Verdict(is_own_incident=True)
        return self._by_rules(name, set(tags))

    def _by_rules(self, name: str, tags: set[str]) -> Verdict:
        groups: list[tuple[int, int]] = []
        fallback_groups: list[tuple[int, int]] = []
        teaches: list[tuple[int, int]] = []
        is_own_detection = False
        for index, rule in enumerate(self._rules):
            specs = rule.written.groups.items()
            lineage = rule.written.lineage
            mask = rule.mask(group for group, spec in specs if name in spec.rules or tags & set(spec.tags))
            fallback = rule.mask(group for group, spec in specs if name in spec.stock) & ~mask
            if mask:
                groups.append((index, mask))
            if fallback:
                fallback_groups.append((index, fallback))
            if not mask and not fallback and (name in lineage.rules or tags & set(lineage.tags)):
                teaches.append((index, 0))
            is_own_detection |= not rule.own_tags.isdisjoint(tags)
        relevant = bool(groups or fallback_groups or teaches)
        verdict = Verdict(
            tuple(groups),
            tuple(fallback_groups),
            tuple(teaches),
            relevant=relevant,
            is_own_detection=is_own_detection,
        )
        return verdict if verdict != NOTHING else NOTHING
