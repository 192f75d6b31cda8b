"""The shipped correlation rules, and the one that most tests play, chosen by its id: others may ship beside it."""

from collections.abc import Sequence

from sidecar.rules.loading import SHIPPED, load
from sidecar.rules.rule import CorrelationRule

RULES = load([SHIPPED / "correlation"])


def by_id(rules: Sequence[CorrelationRule], name: str) -> CorrelationRule:
    """The rule with this id."""
    return next(rule for rule in rules if rule.id == name)


WEB_RCE = by_id(RULES, "web-application-rce")
