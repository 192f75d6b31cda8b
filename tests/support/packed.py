"""The packed field as the plugin writes it, for tests."""

from collections.abc import Sequence
from typing import NamedTuple

GIGA = 1_000_000_000


class Seen(NamedTuple):
    """A process as the plugin knows it; `start` in nanoseconds."""

    pid: int
    start: int
    file: str
    name: str = ""
    known: str = "f"
    ports: str = ""


def packed(own: Seen, ancestors: Sequence[Seen], *, sid: int = 1, entered: bool = False, vpid: int = 0) -> str:
    """The field of a process with its ancestors, the oldest first; the middle of more than 16 is left out."""
    shown = [*ancestors] if len(ancestors) <= 16 else [*ancestors[:8], *ancestors[-8:]]
    words = [f"{each.pid}:{each.start}:{each.known}" + (f":{each.ports}" if each.ports else "") for each in shown]
    if len(ancestors) > 16:
        words.insert(8, f"+{len(ancestors) - 16}")
    numbers = f"=1;{own.pid};{own.start};{sid};0;-1;{vpid or own.pid};{len(ancestors)};{own.known}{'e' * entered}"
    return f"{numbers};{' '.join(words)};{'|'.join(f'{each.file}|{each.name}' for each in (*shown, own))}"
