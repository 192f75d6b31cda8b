"""The building blocks of the settings: a section that checks itself, and marks on values (a secret, a URL).

What has to hold for every setting of a kind is derived from the types: URLs are checked, and secrets hidden, wherever a
field carries the mark. No other module lists settings by name.
"""

import typing
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from sidecar.yamlfile.typed import Duration


class Secret:
    """Marks a value that is never displayed."""


class Url(NamedTuple):
    """Marks a value that is a URL with one of these schemes and a host, or empty."""

    schemes: tuple[str, ...]

    def problem(self, url: str) -> str:
        """What is wrong with a URL, "" if nothing is."""
        if not url or is_url(url, self.schemes):
            return ""
        if not url.isprintable() or " " in url:
            return f"contains a space or a control character: {url!r}"
        return f"expected {' or '.join(f'{scheme}://host:port' for scheme in self.schemes)}, got {url!r}"


class MayBeZero:
    """Marks a duration that may be 0."""


class Reloaded:
    """Marks a value whose change takes effect while the service runs; the change of any other needs a restart."""


MAX_COUNT = 10_000_000

Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
SecretText = Annotated[str, Secret()]
HttpUrl = Annotated[str, Url(("http", "https"))]


class Leaf(NamedTuple):
    """One value: the keys that lead to it, its marks, and what it is set to."""

    keys: tuple[str, ...]
    marks: tuple[Any, ...]
    value: Any

    def has(self, mark: type) -> bool:
        """Whether the value carries a mark."""
        return any(isinstance(each, mark) for each in self.marks)


class Section(Struct, forbid_unknown_fields=True):
    """A part of the settings file. Subclasses add their fields and, in `problems`, what the types cannot express."""

    def sections(self) -> "Iterator[tuple[str, Section]]":
        """The sections directly below this one, by key."""
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Section):
                yield field.encode_name, value

    def problems(self, path: str) -> Iterator[str]:
        """What is wrong with this section at `path`, each as a sentence with the path and the remedy."""
        for leaf in _own_leaves(self, ()):
            if isinstance(leaf.value, Duration) and not leaf.value and not leaf.has(MayBeZero):
                yield f"{'.'.join((path, *leaf.keys)).lstrip('.')}: must be longer than 0"
            for mark in leaf.marks:
                if isinstance(mark, Url) and (problem := mark.problem(leaf.value)):
                    yield f"{'.'.join((path, *leaf.keys)).lstrip('.')}: {problem}"
        for key, section in self.sections():
            yield from section.problems(f"{path}.{key}".lstrip("."))


def changes(old: Section, new: Section, above: str = "") -> "Iterator[tuple[str, bool]]":
    """Each setting that differs, with whether a running service takes the change (`Reloaded`)."""
    for field in msgspec.structs.fields(old):
        name = f"{above}{field.encode_name}"
        before, after = getattr(old, field.name), getattr(new, field.name)
        if isinstance(before, Section):
            yield from changes(before, after, f"{name}.")
        elif before != after:
            yield name, any(isinstance(mark, Reloaded) for mark in _marks(field.type))


def take_over(live: Section, new: Section) -> None:
    """Give `live` the values of `new` that are marked as `Reloaded`, in place."""
    for field in msgspec.structs.fields(live):
        value = getattr(live, field.name)
        if isinstance(value, Section):
            take_over(value, getattr(new, field.name))
        elif any(isinstance(mark, Reloaded) for mark in _marks(field.type)):
            setattr(live, field.name, getattr(new, field.name))


def leaves(section: Section, above: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Every value in a section and below; of a mapping each of its values."""
    yield from _own_leaves(section, above)
    for key, inner in section.sections():
        yield from leaves(inner, (*above, key))


def _own_leaves(section: Section, above: tuple[str, ...]) -> Iterator[Leaf]:
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        keys = (*above, field.encode_name)
        kind = typing.get_args(field.type)[0] if typing.get_origin(field.type) is Annotated else field.type
        if typing.get_origin(kind) is dict:
            _, inner = typing.get_args(kind)
            yield from (Leaf((*keys, key), _marks(inner), each) for key, each in value.items())
        elif not isinstance(value, Section):
            yield Leaf(keys, _marks(field.type), value)


def _marks(kind: Any) -> tuple[Any, ...]:
    return getattr(kind, "__metadata__", ())


def is_url(url: str, schemes: tuple[str, ...] = ("http", "https")) -> bool:
    """Whether this is a URL with one of the schemes, a host, and a port that exists if it names one."""
    if not url.isprintable() or " " in url:  # urlsplit would leave some of them out
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
