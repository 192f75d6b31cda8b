"""Notices silence: a harmless marker process every minute must come back as two alerts.

Two rules of `falco_rules/canary_rules.yaml` match the same exec, so both alerts prove the whole chain: Falco runs, our
rules are loaded, every matching rule fires, and no other reader takes alerts away. Which alerts are missing points to
the cause.
"""

from collections import deque
from typing import NamedTuple

RULES = ("Falco Correlator canary one", "Falco Correlator canary two")

MARKER = "falco-correlator-canary-"

TIMEOUT_SECONDS = 10.0
"""How long both alerts may take to come back."""

MAX_OUTCOMES = 5
"""Canaries that are compared: a second reader takes alerts now and then, a wrong setting always does."""


class Traffic(NamedTuple):
    """What came in since the canary was sent: alerts in all, of them text instead of JSON, and requests refused."""

    alerts: int
    text: int
    refused: int


class Canary:
    """Tracks canaries and names the likely cause when they do not come back; `over_grpc` adds causes."""

    def __init__(self, *, over_grpc: bool) -> None:
        self._over_grpc = over_grpc
        self._nonce = ""
        self._rules_seen: set[str] = set()
        self._outcomes: deque[int] = deque(maxlen=MAX_OUTCOMES)

    def record_sent(self, nonce: str) -> None:
        """Note that a marker process with this nonce was started."""
        self._nonce = nonce
        self._rules_seen = set()

    def record_alert(self, rule: str, cmdline: str) -> None:
        """Note an alert of a canary rule."""
        if self._nonce and self._nonce in cmdline:
            self._rules_seen.add(rule)

    def diagnosis(self, traffic: Traffic) -> str:
        """What is wrong, "" if nothing is; to be asked TIMEOUT_SECONDS after the canary was sent."""
        self._outcomes.append(len(self._rules_seen))
        if len(self._rules_seen) == len(RULES):
            return ""
        return self._one_missing() if self._rules_seen else self._both_missing(traffic)

    def _one_missing(self) -> str:
        if self._over_grpc and 0 in self._outcomes:
            return "only some canary alerts arrive: a second reader takes alerts from Falco's gRPC queue"
        return "only one of two rules that match the same event fires: set rule_matching: all in falco.yaml"

    def _both_missing(self, traffic: Traffic) -> str:
        if traffic.text:
            return "Falco sends text, which cannot be correlated: set json_output: true in falco.yaml"
        if traffic.refused:
            return "requests are refused: Falco's URL lacks the secret path, or its client certificate is wrong"
        if self._over_grpc and any(self._outcomes):
            return "canary alerts arrive only now and then: a second reader takes alerts from Falco's gRPC queue"
        if traffic.alerts:
            return "Falco sends alerts, but none from canary_rules.yaml: our rule files are not loaded"
        return "no alert arrived since the canary: Falco is not running, or does not send its alerts here"
