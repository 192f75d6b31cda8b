"""Takes alerts out of what other programs wrap around them: container runtimes, journald, kubectl, pretty printers.

Falco's own file has an alert on each line. What people have at hand is often the log of Falco's container instead, and
there each line has a prefix, or is itself JSON that holds the line as text.
"""

from collections.abc import Iterable, Iterator

import msgspec

from sidecar.alerts.decode import MAX_BYTES

MAX_PREFIX_BYTES = 256
"""Bytes before an alert on its line: a time, a host, the name of a unit, pod or container."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class _Wrapped(msgspec.Struct):
    """A line of Docker's json-file log (`log`), or of `journalctl -o json` (`MESSAGE`, numbers if it is not UTF-8)."""

    rule: str | None = None
    log: str | None = None
    message: str | list[int] | None = msgspec.field(name="MESSAGE", default=None)


_wrapped = msgspec.json.Decoder(_Wrapped)
_array = msgspec.json.Decoder(list[msgspec.Raw])


class Unwrapper:
    """Unwraps lines that come one after the other; container runtimes split those of more than 16 KiB."""

    def __init__(self) -> None:
        self._partial = b""

    def __call__(self, line: bytes) -> bytes:
        """What a line holds, as the bytes that Falco wrote; b"" for a blank line, or one that continues in the next."""
        content, is_complete = _unwrapped(line)
        if is_complete and not self._partial:
            return content
        self._partial += content
        if not is_complete and len(self._partial) < MAX_BYTES:
            return b""
        return _unwrapped(self.rest())[0]

    def rest(self) -> bytes:
        """What was held back of a line whose end did not come."""
        rest, self._partial = self._partial, b""
        return rest


def alerts(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The alerts in the lines of a file, each as the bytes that Falco wrote; a line that holds none is left as it is.

    Recognised are CRI logs (`TIME stdout F ...`), Docker's json-file, journalctl (short and `-o json`), any other
    prefix, as kubectl and docker compose write, and JSON in arrays or over several lines.
    """
    unwrapper = Unwrapper()
    document: list[bytes] = []
    size = 0
    closing = b"}"
    for raw in lines:
        line = raw.strip().removeprefix(_BYTE_ORDER_MARK)
        if document:
            document.append(line)
            size += len(line)
            if raw.rstrip().removesuffix(b",") == closing or size > MAX_BYTES:
                yield b"\n".join(document).removesuffix(b",")
                document = []
        elif line == b"{":
            document = [line]
            size = 0
            closing = raw[: raw.index(b"{")].removeprefix(_BYTE_ORDER_MARK) + b"}"
        elif line[:1] == b"[":
            yield from _elements(line)
        elif line and line != b"]" and (alert := unwrapper(line.removesuffix(b","))):
            yield alert
    if rest := b"\n".join(document) or unwrapper.rest():
        yield rest


def _elements(line: bytes) -> Iterator[bytes]:
    """The alerts of a JSON array in one line; nothing for the line that opens an array."""
    try:
        yield from map(bytes, _array.decode(line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if line != b"[":
            yield line if line.endswith(b"]") else _unwrapped(line)[0]


def _unwrapped(line: bytes) -> tuple[bytes, bool]:
    """What one line holds, and whether that is complete."""
    line = line.strip()
    if line.startswith(b"{"):
        return _from_object(line) if line.startswith(b'{"log"') or b'"MESSAGE"' in line else (line, True)
    time, _, rest = line.partition(b" ")
    stream, _, tagged = rest.partition(b" ")
    if stream in (b"stdout", b"stderr") and tagged[:2] in (b"F ", b"P ") and b"T" in time:
        return tagged[2:], tagged[:1] == b"F"
    start = line.find(b'{"', 0, MAX_PREFIX_BYTES)
    return (line[start:], True) if start > 0 and line.endswith(b"}") else (line, True)


def _from_object(line: bytes) -> tuple[bytes, bool]:
    try:
        wrapped = _wrapped.decode(line)
        if wrapped.rule is None and wrapped.log is not None:
            return wrapped.log.removesuffix("\n").encode(), wrapped.log.endswith("\n")
        if wrapped.rule is None and wrapped.message is not None:
            message = wrapped.message
            return message.encode() if isinstance(message, str) else bytes(message), True
    except (msgspec.DecodeError, ValueError, RecursionError):  # also UnicodeDecodeError, and numbers that are no bytes
        pass
    return line, True
