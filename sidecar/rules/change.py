"""From one list of correlation rules to another: what became of a rule, its groups and its cases.

Rules are matched by id, groups and cases by name. What no longer exists has no successor, and its evidence is dropped.
"""

from collections.abc import Sequence

from sidecar.rules.rule import CorrelationRule


class Successor:
    """A rule that replaces one of the same id: its index, and how groups and cases are translated.

    `bits` maps the bit of a group or counter to its new one.
    """

    def __init__(self, old: CorrelationRule, new: CorrelationRule, index: int) -> None:
        self.index = index
        self.bits = {bit: new.groups.index(name) for bit, name in enumerate(old.groups) if name in new.groups}
        self.bits |= {
            bit: len(new.groups) + new.counters.index(counter)
            for bit, counter in enumerate(old.counters, len(old.groups))
            if counter in new.counters
        }
        self._new = new
        names = [case.name for case in new.cases]
        self._cases = [names.index(case.name) if case.name in names else -1 for case in old.cases]

    def mask(self, mask: int) -> int:
        """The groups of a mask that still exist."""
        return sum(1 << bit for old, bit in self.bits.items() if mask >> old & 1)

    def case(self, case: int, groups: int) -> int:
        """The row of the case table, or, where that is gone, the one that holds for these new groups, or the last."""
        row = self._cases[case]
        if row < 0:
            row = self._new.outcomes[groups]
        return row if row >= 0 else len(self._new.cases) - 1


def successors(old: Sequence[CorrelationRule], new: Sequence[CorrelationRule]) -> dict[int, Successor]:
    """By the index of each old rule what became of it; without those that are gone."""
    by_id = {rule.id: (index, rule) for index, rule in enumerate(new)}
    return {
        index: Successor(rule, by_id[rule.id][1], by_id[rule.id][0])
        for index, rule in enumerate(old)
        if rule.id in by_id
    }
