"""Which groups of a context count."""

from sidecar.correlation.memory.context import Context
from sidecar.model import Detection
from sidecar.rules.rule import CorrelationRule

T0 = 10**18


def context() -> Context:
    return Context(1, "nginx", True, T0, 0, {}, [], set(), anchor_renewed=T0)


def detection(rule: CorrelationRule, group: str, time: int) -> Detection:
    return Detection(time, "rule", rule.mask([group]), "lineage", ((1, "sh"),), "sh", "")


def test_absorbed_evidence_counts_with_the_next_detection(rule: CorrelationRule) -> None:
    wider, narrower = context(), context()
    wider.add(detection(rule, "web_shell", T0), rule)
    narrower.add(detection(rule, "credential", T0), rule)

    wider.absorb(narrower)
    wider.add(detection(rule, "network", T0 + 1), rule)

    assert rule.named(wider.active_groups) == ("web_shell", "network", "credential")
