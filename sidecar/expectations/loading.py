"""Loads expectation files and reports every mistake in every file at once.

An entry that would cover whatever an intruder types is a mistake: a shell without a script, `sh -c *`, any program,
any place.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sidecar.errors import ConfigError
from sidecar.expectations.entries import Entry, Place
from sidecar.expectations.patterns import ANY_SHELL, Command, Glob
from sidecar.expectations.spec import EntrySpec, ExpectationFile, PlaceSpec
from sidecar.meaning import interpreted_code
from sidecar.meaning.tables import current
from sidecar.rules.loading import yaml_files
from sidecar.text import escape
from sidecar.yamlfile import positions
from sidecar.yamlfile.typed import build, read_yaml

MAX_ENTRIES = 5_000
"""Of all files together."""


def load(paths: Iterable[Path]) -> list[Entry]:
    """The entries of these files, and of those in folders.

    Raises:
        ConfigError: every problem in every file, with its line.
    """
    entries: list[Entry] = []
    problems: list[str] = []
    for path in yaml_files(paths):
        try:
            entries += compiled(read(path), str(path))
        except ConfigError as error:
            problems += [positions.located(path, problem) for problem in error.problems]
    twice = [name for name, count in Counter(entry.id for entry in entries).items() if count > 1]
    problems += [f"two entries have the id {name!r}: ids must be unique" for name in sorted(twice)]
    if len(entries) > MAX_ENTRIES:
        problems.append(f"{len(entries)} entries, at most {MAX_ENTRIES} are supported")
    if problems:
        raise ConfigError("", problems)
    return entries


def read(path: Path) -> ExpectationFile:
    """A file as written. Raises ConfigError."""
    return build(ExpectationFile, read_yaml(path), str(path))


def is_expectation_file(path: Path) -> bool:
    """Whether a file, perhaps with mistakes, is one of expectations rather than a correlation rule."""
    try:
        data = read_yaml(path)
    except ConfigError:
        return False
    return isinstance(data, dict) and ("entries" in data or "product" in data)


def compiled(written: ExpectationFile, where: str) -> list[Entry]:
    """The entries of a file, checked beyond what types express. Raises ConfigError."""
    problems = [
        f"entries[{index}].{problem}"
        for index, each in enumerate(written.entries)
        for problem in _problems(written, each)
    ]
    if not written.entries:
        problems.append("entries: a file needs at least one entry")
    if problems:
        raise ConfigError(where, problems)
    return [_entry(written, each, where) for each in written.entries]


def _entry(written: ExpectationFile, each: EntrySpec, where: str) -> Entry:
    place = each.place or written.place
    return Entry(
        id=each.id,
        why=each.why,
        place=Place(_images(place.images), _globs(place.containers), _globs(place.namespaces), _globs(place.pods)),
        commands=tuple(map(Command.parse, each.commands)),
        services=_globs(each.service),
        parents=_globs(each.parent),
        files=_globs(each.files),
        remotes=_globs(each.remotes),
        groups=frozenset(each.groups),
        until=_end(each.until) if each.until else 0,
        where=where,
    )


def _globs(texts: Iterable[str]) -> tuple[Glob, ...]:
    return tuple(map(Glob.parse, texts))


def _images(texts: Iterable[str]) -> tuple[Glob, ...]:
    """Patterns of images; what begins with `*/` also stands for an image without registry and folder."""
    return _globs([each for text in texts for each in ((text, text[2:]) if text.startswith("*/") else (text,))])


def _end(day: str) -> int:
    """The end of a day in nanoseconds since 1970. Raises ValueError."""
    return int((datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)).timestamp()) * 10**9


def _problems(written: ExpectationFile, entry: EntrySpec) -> Iterator[str]:
    for key, text in (("id", entry.id), ("why", entry.why)):
        if not text or escape.sentence(text) != text:
            yield f"{key}: {escape.terminal(text)!r} is empty or contains control or markup characters"
    yield from _place_problems(entry.place or written.place, entry)
    if not entry.commands:
        yield "commands: is empty; give the whole command, such as `wal-g wal-push *`"
    for number, command in enumerate(entry.commands):
        for problem in _command_problems(command):
            yield f"commands[{number}]: {problem}"
    if entry.until:
        try:
            _end(entry.until)
        except ValueError:
            yield f"until: expected a day such as 2027-03-31, got {entry.until!r}"


def _place_problems(place: PlaceSpec, entry: EntrySpec) -> Iterator[str]:
    named = [*place.images, *place.containers, *place.namespaces, *place.pods]
    if not named and not entry.service and not entry.parent:
        yield "place: is missing: name an image, a container, a namespace, a pod, a service, or a parent"
    for text in [*named, *entry.service, *entry.parent]:
        if not text.strip("*/"):
            yield f"place: {text!r} stands for every place; name one"


def _command_problems(command: str) -> Iterator[str]:
    words = command.split()
    if not words:
        yield "is empty"
        return
    if not words[0].strip("*/"):
        yield f"{words[0]!r} stands for every program; name one"
    if "**" in words[:-1] or any("**" in word and word != "**" for word in words):
        yield "`**` stands for the remaining words, so it can only be the last one"
    yield from _code_problems(words[0], words[1:])


def _code_problems(program: str, arguments: list[str]) -> Iterator[str]:
    """A shell or an interpreter of which the entry does not say what it runs."""
    name, tables = program.rpartition("/")[2], current()
    is_shell = name == ANY_SHELL or tables.shells.has_file(name)
    if not is_shell and not tables.interpreters.has_file(name.rstrip("*")):
        return
    code = interpreted_code.code(arguments, ("sh",) if is_shell else (name.rstrip("*"),))
    first = next((word for word in arguments if not word.startswith("-")), "")
    named = first if code.is_inline else code.script or code.module
    if not named.strip("*/-"):
        yield f"stands for whatever {program} is given; name what it runs"
    elif code.is_inline and arguments[-1] == "**":
        yield "`**` after code in an argument would cover what is appended to it; use `*` for each word"
