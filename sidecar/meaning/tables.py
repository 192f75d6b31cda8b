"""The table of programs by what they are: services, runtimes, boundaries, shells, tools (`falco_rules/programs.yaml`).

Names are those of resolved files and of scripts, which an intruder cannot set, not those that a process gives itself.
"""

import re
from collections.abc import Callable, Iterable
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from msgspec import Struct

from sidecar.rules.loading import SHIPPED
from sidecar.yamlfile.typed import build, read_yaml

P = ParamSpec("P")
T = TypeVar("T")

PROGRAMS = SHIPPED / "programs.yaml"

MAX_KNOWN_FILES = 512
"""Files for which it is kept whether they are of a kind: a node runs a few hundred."""

MAX_KNOWN_CHARS = 256


class Programs(Struct, forbid_unknown_fields=True, dict=True):
    """Programs of one kind. `*` stands for any characters but `/`, `**` for folders, `{a,b}` for either."""

    files: list[str] = []
    """Base names of resolved files."""
    scripts: list[str] = []
    """Base names of what an interpreter runs, or names of modules and main classes."""
    paths: list[str] = []
    """Whole paths of a resolved file or script."""
    commands: list[str] = []
    """Subcommands for which alone an entry holds."""

    def has_file(self, path: str) -> bool:
        """Whether a program's resolved file is of this kind; of a path without folders only the name is known."""
        found = self._known_files.get(path)
        if found is None:
            found = self._has_file(path)
            if len(self._known_files) >= MAX_KNOWN_FILES:
                self._known_files.clear()
            if len(path) <= MAX_KNOWN_CHARS:
                self._known_files[path] = found
        return found

    def _has_file(self, path: str) -> bool:
        if "/" not in path:
            return bool(path) and self._names.has(path)
        return self._files.has(base_name(path)) or self.has_path(path)

    def has_script(self, path: str) -> bool:
        """Whether a script, a module or a main class is of this kind."""
        return bool(path) and (self._scripts.has(base_name(path)) or self.has_path(path))

    def has_path(self, path: str) -> bool:
        """Whether one of `paths` describes this one."""
        return bool(self.paths) and bool(self._paths.fullmatch(path))

    def has_command(self, command: str) -> bool:
        """Whether an entry holds for a subcommand."""
        return not self.commands or command in self.commands

    @cached_property
    def _known_files(self) -> dict[str, bool]:
        return {}

    @cached_property
    def _files(self) -> "_Names":
        return _Names(self.files)

    @cached_property
    def _names(self) -> "_Names":
        last = [path.rpartition("/")[2] for path in self.paths]
        return _Names([*self.files, *(name for name in last if name.strip("*") and name.count("{") == name.count("}"))])

    @cached_property
    def _scripts(self) -> "_Names":
        return _Names(self.scripts)

    @cached_property
    def _paths(self) -> re.Pattern[str]:
        return re.compile(_pattern(self.paths), re.DOTALL)


class Tables(Struct, forbid_unknown_fields=True):
    """The whole file, by kind; `services` and `boundaries` have kinds of their own."""

    services: dict[str, Programs]
    runtimes: Programs
    compiled_servers: Programs
    job_tools: Programs
    job_scripts: Programs
    job_commands: Programs
    boundaries: dict[str, Programs]
    context_kinds: dict[str, Programs]
    supervisors: Programs
    shells: Programs
    file_readers: Programs
    shell_utilities: Programs
    http_clients: Programs
    network_utilities: Programs
    tunnels: Programs
    interpreters: Programs
    multi_call: Programs
    loaders: Programs
    world_writable: Programs
    tool_modules: Programs
    data: Programs
    dropped: Programs


def load(path: Path = PROGRAMS) -> Tables:
    """Load a table of programs.

    Raises:
        ConfigError: every mistake in the file.
    """
    return build(Tables, read_yaml(path), str(path))


@lru_cache(maxsize=1)
def current() -> Tables:
    """The table that travels with this package, with what `extend` added."""
    tables = load()
    for added in _added:
        tables.services["added"] = Programs(added.services, added.services)
        tables.runtimes.files.extend(added.runtimes)
        tables.runtimes.scripts.extend(added.runtimes)
        tables.job_tools.files.extend(added.jobs)
        tables.job_tools.scripts.extend(added.jobs)
        tables.boundaries["added"] = Programs(paths=added.boundaries)
    return tables


class AddedPrograms(Protocol):
    """Programs of a user: names of services, runtimes and jobs, and paths of boundaries."""

    services: list[str]
    runtimes: list[str]
    jobs: list[str]
    boundaries: list[str]


_added: list[AddedPrograms] = []
"""What `extend` was given last."""


def extend(added: AddedPrograms) -> None:
    """Add programs to the table, for the whole process; what was added before falls away."""
    _added[:] = [added]
    for cache in (current, *_answers):
        cache.cache_clear()


_answers: list[Any] = []


def remembered(function: Callable[P, T]) -> Callable[P, T]:
    """Remember the latest answers of a function that depend on the table, until `extend` changes it."""
    cached = lru_cache(maxsize=4096)(function)
    _answers.append(cached)
    return cast("Callable[P, T]", cached)


def base_name(path: str) -> str:
    """The last part of a path; `memfd:x` and names without a folder are their own."""
    return PurePosixPath(path).name if path.endswith("/") else path.rpartition("/")[2]


class _Names:
    """Names without folders, most of which are exact or the beginning of one: forty patterns took 20 ms to compile."""

    def __init__(self, names: Iterable[str]) -> None:
        plain = [each for name in names for each in _alternatives(name)]
        self._exact = frozenset(name for name in plain if "*" not in name)
        self._beginnings = tuple([name[:-1] for name in plain if name.find("*") == len(name) - 1])
        others = [name for name in plain if name not in self._exact and name[:-1] not in self._beginnings]
        self._others = re.compile(_pattern(others), re.DOTALL) if others else None

    def has(self, name: str) -> bool:
        """Whether a name is one of them."""
        if name in self._exact or name.startswith(self._beginnings):
            return True
        return self._others is not None and bool(self._others.fullmatch(name))


def _alternatives(name: str) -> list[str]:
    """The names that one with `{a,b}` stands for."""
    before, brace, rest = name.partition("{")
    within, closed, after = rest.partition("}")
    if not brace or not closed:
        return [name]
    return [before + each + end for each in within.split(",") for end in _alternatives(after)]


def _pattern(names: Iterable[str]) -> str:
    """A pattern for any of these names or paths."""
    return "|".join(map(_as_regex, names)) or r"(?!)"


def _as_regex(name: str) -> str:
    if name.endswith("/**"):  # the folder too, which an interpreter can be told to run
        return _as_regex(name[:-3]) + r"(?:/.*)?"
    parts = re.split(r"(\*\*/?|\*|\{[^}]*\})", name)
    return "".join(_part_as_regex(part) for part in parts)


def _part_as_regex(part: str) -> str:
    if part[:1] == "{":
        return "(?:" + "|".join(map(_as_regex, part[1:-1].split(","))) + ")"
    return {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*"}.get(part) or re.escape(part)
