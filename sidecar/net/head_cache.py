"""The head of a request, recognised without parsing it: Falco repeats it with every alert, except for the length.

A head that llhttp has accepted as that of a complete, valid request is accepted again if it is the same to the byte
and only the digits of its Content-Length differ. Anything else is left to llhttp, so the two can never disagree. One
head is remembered for each connection.
"""

import re
from typing import NamedTuple, Self

LONGEST = 2048
"""Bytes of a head that is remembered. Falco's has 200; what a proxy adds is rarely more than a few hundred."""

DIGITS = 7
"""Of a length at most, which leaves no room for leading zeros without end."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,%d})\r\n" % DIGITS, re.IGNORECASE)


class Head(NamedTuple):
    """The bytes before and behind the digits of the length; the latter end within `end` bytes of a request."""

    before: bytes
    behind: bytes
    start: int
    end: int

    @classmethod
    def of(cls, request: bytes, body: bytes) -> Self | None:
        """The head of what arrived at once and was one whole request with this body; None if it is of no use.

        It must end at the first empty line, with nothing behind the body, and all its lines in CRLF: then there is
        but one way to read it.
        """
        head = request[: len(request) - len(body)]
        found = _LENGTH.search(head)
        if found is None or len(head) > LONGEST or int(found[1]) != len(body):
            return None
        if head.find(b"\r\n\r\n") != len(head) - 4 or head.count(b"\n") != head.count(b"\r\n"):
            return None
        start, behind = found.start(1), head[found.end(1) :]
        return cls(head[:start], behind, start, start + DIGITS + len(behind))

    def body(self, data: bytes) -> bytes | None:
        """The body, if this is the same head with the whole body that it announces, and nothing else."""
        before, behind, start, end = self
        if not data.startswith(before):
            return None
        at = data.find(behind, start, end)
        digits = data[start:at] if at > 0 else b""
        body = data[at + len(behind) :]
        return body if digits.isdigit() and int(digits) == len(body) else None
