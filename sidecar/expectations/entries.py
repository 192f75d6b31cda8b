"""Entries ready to use, and which of them a detection matches.

The entries that hold at a place are looked up once for each place and kept: with a thousand entries
a detection still costs what those of its own container do.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct

from sidecar.expectations.patterns import Command, Glob, is_name
from sidecar.meaning.program import Program
from sidecar.model import Fields, Where

MAX_PLACES = 2_048
"""Places of which the entries are kept."""


class Place(Struct, frozen=True):
    """Where an entry holds: of each kind that is given, one pattern must match."""

    images: tuple[Glob, ...] = ()
    containers: tuple[Glob, ...] = ()
    namespaces: tuple[Glob, ...] = ()
    pods: tuple[Glob, ...] = ()

    def includes(self, where: Where) -> bool:
        """Whether a container, or the host itself, is this place."""
        given = (
            (self.images, where.image),
            (self.containers, where.container_name),
            (self.namespaces, where.namespace),
            (self.pods, where.pod),
        )
        return all(not globs or any(glob.matches(text) for glob in globs) for globs, text in given)


class Entry(Struct, frozen=True):
    """One behaviour that is normal at a place. `until` is in nanoseconds since 1970, 0 for ever."""

    id: str
    why: str
    place: Place
    commands: tuple[Command, ...]
    services: tuple[Glob, ...] = ()
    parents: tuple[Glob, ...] = ()
    files: tuple[Glob, ...] = ()
    remotes: tuple[Glob, ...] = ()
    groups: frozenset[str] = frozenset()
    until: int = 0
    where: str = ""
    """The file that it comes from."""

    def covers(self, seen: "Seen") -> bool:
        """Whether what was seen is this behaviour; the place was looked at before."""
        if self.until and seen.time >= self.until:
            return False
        if self.groups and not self.groups.issuperset(seen.groups):
            return False
        if not self._covers_deed(seen.fields) or not any(command.matches(seen.program) for command in self.commands):
            return False
        ancestors = seen.ancestors() if self.services or self.parents else ()
        if self.parents and not is_name(self.parents, ancestors[:1]):
            return False
        return not self.services or is_name(self.services, ancestors)

    def _covers_deed(self, fields: Fields) -> bool:
        """Whether it is about what the process did: it started, opened a file, or connected."""
        if fields.remote_ip:
            return any(glob.matches(f"{fields.remote_ip}:{fields.remote_port or 0}") for glob in self.remotes)
        if fields.file and fields.evt_type not in ("execve", "execveat"):
            return any(glob.matches(fields.file) for glob in self.files)
        return fields.evt_type in ("execve", "execveat") or not (self.files or self.remotes)


class Seen(NamedTuple):
    """A detection as entries look at it. `ancestors` gives the files, or names, of the ancestors, nearest first."""

    where: Where
    groups: Sequence[str]
    program: Program
    fields: Fields
    time: int
    ancestors: Callable[[], Sequence[str]]


class Expectations:
    """All entries, by place."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        self._by_place: dict[Where, tuple[Entry, ...]] = {}

    def entry(self, seen: Seen) -> Entry | None:
        """The first entry that covers what was seen, or None."""
        where = seen.where
        entries = self._by_place.get(where)
        if entries is None:
            if len(self._by_place) >= MAX_PLACES:
                self._by_place.clear()
            entries = self._by_place[where] = tuple(each for each in self.entries if each.place.includes(where))
        return next((each for each in entries if each.covers(seen)), None)
