"""Recognises the head of a request without parsing it: Falco repeats the same head except for the Content-Length.

A head that llhttp accepted in a complete, valid request is accepted again if it is identical but for the digits of its
Content-Length. Everything else is left to llhttp, so the two can never disagree. Each connection caches one head.
"""

import re
from typing import NamedTuple, Self

MAX_HEAD_BYTES = 2048
"""Of a head that is cached. Falco's has 200, and a proxy rarely adds more than a few hundred."""

MAX_LENGTH_DIGITS = 7
"""Of a Content-Length, so that leading zeros are limited too."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,%d})\r\n" % MAX_LENGTH_DIGITS, re.IGNORECASE)


class Head(NamedTuple):
    """The bytes before and after the digits of the length, which start at `start`; the head ends before `end`."""

    before: bytes
    after: bytes
    start: int
    end: int

    @classmethod
    def parse(cls, request: bytes, body: bytes) -> Self | None:
        """The head of one whole request with this body; None if it cannot be cached.

        It must end at the first empty line, nothing may follow the body, and all its lines must end in CRLF: then
        there is only one way to read it.
        """
        head = request[: len(request) - len(body)]
        length = _LENGTH.search(head)
        if length is None or len(head) > MAX_HEAD_BYTES or int(length[1]) != len(body):
            return None
        if head.find(b"\r\n\r\n") != len(head) - 4 or head.count(b"\n") != head.count(b"\r\n"):
            return None
        start = length.start(1)
        after = head[length.end(1) :]
        return cls(head[:start], after, start, start + MAX_LENGTH_DIGITS + len(after))

    def body(self, data: bytes) -> bytes | None:
        """The body, if the data is this head with exactly the body that it announces; else None."""
        before, after, start, end = self
        if not data.startswith(before):
            return None
        at = data.find(after, start, end)
        digits = data[start:at] if at > 0 else b""
        body = data[at + len(after) :]
        return body if digits.isdigit() and int(digits) == len(body) else None
