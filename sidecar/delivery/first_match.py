"""Of the alerts of one event only the first, as Falco itself sends it with `rule_matching: first`.

Correlation needs `rule_matching: all`, with which Falco reports an event once for each rule that matches it, one after
the other and in the order of its rules files. Users who had `first` before can get that back for pass-through.

Falco writes no id of an event that could be relied on (`evt.num` is not in every rule's output). So an alert counts as
a repetition if it follows the event's first one directly, has the same time (nanoseconds), host and source, another
rule, and no field with another value than the first one has. In doubt it is passed on.
"""

from typing import Any

import msgspec


class _Envelope(msgspec.Struct):
    """What two alerts of one event have in common, and their fields, which are read only if that is the same."""

    rule: str
    time: str
    source: str = ""
    hostname: str = ""
    output_fields: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def event(self) -> tuple[str, str, str]:
        """When and where the event happened."""
        return self.time, self.source, self.hostname


_envelope = msgspec.json.Decoder(_Envelope)
_fields = msgspec.json.Decoder(dict[str, Any])


class FirstMatch:
    """Decides which alerts are the first of their event; it takes them in the order in which Falco sent them."""

    def __init__(self) -> None:
        self._first: _Envelope | None = None

    def __call__(self, body: bytes) -> bool:
        """Whether an alert is the first of its event; true for anything that is not an alert."""
        try:
            alert = _envelope.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return True
        if self._first is not None and _is_repetition(self._first, alert):
            return False
        self._first = alert
        return True


def _is_repetition(first: _Envelope, alert: _Envelope) -> bool:
    if alert.event != first.event or alert.rule == first.rule:
        return False
    try:
        before, now = _fields.decode(first.output_fields), _fields.decode(alert.output_fields)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    common = before.keys() & now.keys()
    return bool(common) and all(before[name] == now[name] for name in common)
