"""Silence is noticed: a harmless marker process every minute must come back as two alerts, or something is wrong.

Two rules of `falco_rules/canary_rules.yaml` match the same exec, so both coming back proves the whole chain: Falco
lives, our rules are loaded, every matching rule fires, and nobody takes alerts away. What is missing says what is
wrong.
"""

from collections import deque
from typing import NamedTuple

RULES = ("Falco Correlator canary one", "Falco Correlator canary two")

MARK = "falco-correlator-canary-"

PATIENCE = 10.0
"""Seconds within which both alerts must be back."""

REMEMBERED = 5
"""Canaries whose outcome is looked at, to tell a thief (now and then one is missing) from a wrong setting (always)."""


class Traffic(NamedTuple):
    """What else came in since the canary was sent."""

    alerts: int
    text: int
    refused: int


class Canary:
    """Keeps track of the canaries; `over_grpc` widens the possible causes."""

    def __init__(self, *, over_grpc: bool) -> None:
        self._over_grpc = over_grpc
        self._waiting = ""
        self._back: set[str] = set()
        self._outcomes: deque[int] = deque(maxlen=REMEMBERED)

    def sent(self, nonce: str) -> None:
        """A marker process with this nonce was started."""
        self._waiting, self._back = nonce, set()

    def came_back(self, rule: str, cmdline: str) -> None:
        """An alert of a canary rule came in."""
        if self._waiting and self._waiting in cmdline:
            self._back.add(rule)

    def verdict(self, traffic: Traffic) -> str:
        """What is wrong, "" if nothing is; to be asked PATIENCE after the canary was sent."""
        self._outcomes.append(len(self._back))
        if len(self._back) == len(RULES):
            return ""
        return self._half() if self._back else self._nothing(traffic)

    def _half(self) -> str:
        if self._over_grpc and 0 in self._outcomes:
            return "canaries come back only in part: a second reader takes alerts from Falco's gRPC queue"
        return "only one of two rules that match the same event fires: set rule_matching: all"

    def _nothing(self, traffic: Traffic) -> str:
        if traffic.text:
            return "Falco sends text, which cannot be correlated: set json_output: true"
        if traffic.refused:
            return "alerts are refused: Falco's URL lacks the secret path, or its client certificate is wrong"
        if self._over_grpc and any(self._outcomes):
            return "canaries come back only now and then: a second reader takes alerts from Falco's gRPC queue"
        if traffic.alerts:
            return "Falco sends alerts, but not those of canary_rules.yaml: our rule files are not loaded"
        return "no alert has come since the canary: Falco is not running, or does not send its alerts here"
