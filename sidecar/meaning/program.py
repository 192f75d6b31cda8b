"""What was really run: the program behind links, loaders, interpreters and files that are many programs.

A name is whatever a link, `prctl` or `exec -a` makes of it, so the resolved file (`proc.exepath`) comes first. A file
that is many programs (busybox, toybox, the coreutils in Rust) does what argv[0] (`proc.exe`) says, then its first
argument. The dynamic loader and interpreters run another file: their arguments name it here, and the events of the
files that they open name it where arguments were bent (`sidecar.correlation.memory`). The Falco rules ask the same of
single events with the macros `webrce_shell`, `webrce_file_reader`, `webrce_net_util` and `webrce_one_liner`.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from posixpath import normpath
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from sidecar.meaning import interpreted_code
from sidecar.meaning.tables import Tables, base_name, current
from sidecar.model import Fields
from sidecar.text.lazy_pattern import LazyPattern

Kind = Literal["shell", "file_reader", "shell_utility", "http_client", "network_utility", "interpreter"]

MAX_LOADERS = 4
"""Loaders and multi-call files that may stand before a program."""

_STDIN = LazyPattern(r"-|/dev/stdin|/dev/fd/\d+|/proc/(self|thread-self|\d+)/fd/\d+|php://stdin")
_LOADER_VALUES = frozenset(
    (
        "--argv0",
        "--library-path",
        "--preload",
        "--audit",
        "--inhibit-rpath",
        "--glibc-hwcaps-prepend",
        "--glibc-hwcaps-mask",
    )
)
_ASKS_ABOUT_ITSELF = frozenset(("--version", "-V", "-VV", "--help", "-h", "-version", "-v"))
_NO_COMMAND_LINE = LazyPattern(r"(php-fpm|php-cgi|lsphp).*")
_SPAWNS = LazyPattern(
    r"(-\S+ )*-c from multiprocessing[.](spawn|forkserver|resource_tracker) import (spawn_main|main); ?"
    r"(spawn_main|main)\([\w=, \[\]'\"./-]*\)( --multiprocessing-fork.*)?"
)
"""How Python starts the workers of a program of its own: no code that someone typed."""

_VERSION = LazyPattern(r"[-.0-9]+[a-z]*$")


class Program(Struct, frozen=True):
    """A program as it runs. Texts are "" where they are unknown or do not apply."""

    file: str
    """Its resolved file; behind the dynamic loader, the file that was named to it."""
    name: str
    """The base name by which tables know it: of the file, or the applet that a multi-call file runs."""
    called: str
    """What the process calls itself, the second source."""
    words: tuple[str, ...]
    """Its arguments. Falco joins them with blanks, so an argument with blanks is several words."""
    script: str = ""
    """The file whose code it runs, absolute if the folder is known; or a module's name (`is_module`)."""
    loads: tuple[str, ...] = ()
    """Files of code that it was asked to load besides."""
    is_module: bool = False
    has_inline_code: bool = False
    """It runs code that stands in its arguments."""
    reads_code: bool = False
    """It runs code from its standard input, or from a descriptor."""
    is_loaded: bool = False
    """The dynamic loader was asked for it by name, as no packaged program is started."""
    kinds: frozenset[Kind] = frozenset()

    @property
    def is_general_tool(self) -> bool:
        """Whether it does what its user says: a shell, a file reader, a network client, code from a command line."""
        if "interpreter" in self.kinds and "shell" not in self.kinds:
            is_tool_module = self.is_module and self.script in _tool_modules()
            return self.is_loaded or self.has_inline_code or self.reads_code or is_tool_module
        return self.is_loaded or bool(self.kinds & {"shell", "file_reader", "http_client", "network_utility"})


def program(fields: Fields, tables: Tables | None = None) -> Program:
    """What the process of an alert really runs, by the alert alone."""
    return _program(
        fields.exepath or "",
        fields.name or "",
        fields.exe or "",
        arguments(fields),
        fields.cwd or "",
        tables or current(),
    )


def arguments(fields: Fields) -> str:
    """A process's arguments as Falco joins them (`proc.args`), out of its command line."""
    command = fields.cmdline or ""
    name = fields.name or ""
    if name and command.startswith(name):
        return command[len(name) :].lstrip(" ")
    return command.partition(" ")[2]


def _program(file: str, called: str, argv0: str, arguments: str, cwd: str, tables: Tables) -> Program:
    words = tuple(arguments.split())
    is_loaded = False
    name = base_name(file) or called
    for _ in range(MAX_LOADERS):
        if tables.loaders.has_file(file or name):
            is_loaded = "--library-path" not in words  # as packaged programs bring their own libraries
            words, argv0 = _after_loader(words)
            file = _absolute(argv0, cwd)
            name = called = base_name(file)
        elif tables.multi_call.has_file(file or name):
            applet, words = _applet(argv0, words, tables)
            if applet == name:
                break
            name = called = applet
            break
        else:
            break
    kinds = _kinds(name, called, tables)
    found = Program(file, name, called, words, is_loaded=is_loaded, kinds=kinds)
    if name == "java":
        return replace(found, loads=tuple([_absolute(path, cwd) for path in interpreted_code.java_code(words)]))
    return _with_code(found, argv0, cwd, tables) if kinds & {"interpreter", "shell"} else found


def _after_loader(words: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The words after the program that a dynamic loader is to run, and that program."""
    at = 0
    while at < len(words) and words[at].startswith("--"):
        at += 2 if words[at] in _LOADER_VALUES else 1
    return tuple(words[at + 1 :]), words[at] if at < len(words) else ""


def _applet(argv0: str, words: tuple[str, ...], tables: Tables) -> tuple[str, tuple[str, ...]]:
    """Which program a multi-call file is, and its arguments."""
    called = base_name(argv0).lstrip("-")
    if called and not tables.multi_call.has_file(called):
        return called, words
    if words and words[0].startswith("--coreutils-prog="):
        return words[0].partition("=")[2], words[1:]
    return (base_name(words[0]), words[1:]) if words else (called, words)


def _kinds(name: str, called: str, tables: Tables) -> frozenset[Kind]:
    return _kinds_of(name, called) if tables is current() else frozenset(_matching(name, called, tables))


@lru_cache(maxsize=4096)
def _kinds_of(name: str, called: str) -> frozenset[Kind]:
    return frozenset(_matching(name, called, current()))


def _matching(name: str, called: str, tables: Tables) -> Iterator[Kind]:
    kinds: tuple[tuple[Kind, Callable[[str], bool]], ...] = (
        ("shell", tables.shells.has_file),
        ("file_reader", tables.file_readers.has_file),
        ("shell_utility", tables.shell_utilities.has_file),
        ("http_client", tables.http_clients.has_file),
        ("network_utility", tables.network_utilities.has_file),
    )
    for kind, has in kinds:
        if has(name) or has(called):
            yield kind
    if tables.interpreters.has_file(name):  # a tool that calls itself php-fpm stays one
        yield "interpreter"


def _with_code(found: Program, argv0: str, cwd: str, tables: Tables) -> Program:
    """The program of an interpreter or a shell with the code that it runs."""
    if _NO_COMMAND_LINE.fullmatch(found.name):
        return found
    names = ("sh",) if "shell" in found.kinds else (found.name, found.called)
    code = interpreted_code.code(found.words, names)
    console_command = _console_command(found, argv0, tables)
    if console_command and not code.is_inline:
        return replace(found, script=_absolute(console_command, cwd))
    found = replace(found, loads=tuple([_absolute(file, cwd) for file in code.loads]))
    if code.is_inline:
        if _SPAWNS.fullmatch(" ".join(found.words)):
            return replace(found, script="multiprocessing", is_module=True)
        return replace(found, has_inline_code=True)
    if code.module:
        return replace(found, script=code.module, is_module=True)
    is_from_descriptor = _STDIN.fullmatch(code.script) if code.script else _ASKS_ABOUT_ITSELF.isdisjoint(found.words)
    return replace(found, script=_absolute(code.script, cwd), reads_code=bool(is_from_descriptor))


def _is_language(name: str, tables: Tables) -> bool:
    return tables.interpreters.has_file(name) or tables.shells.has_file(name)


def _console_command(found: Program, argv0: str, tables: Tables) -> str:
    """The script of a process that goes by its name: a console command. "" if it goes by the interpreter's."""
    called = base_name(argv0) if argv0 else found.called
    if not called or found.is_loaded or _is_language(called.lstrip("-"), tables) or _is_language(found.called, tables):
        return ""
    if tables.multi_call.has_file(called) or not found.called or called[:15] != found.called[:15]:
        return ""
    return argv0 or called


def _absolute(path: str, cwd: str) -> str:
    if not path or path.startswith("/") or not cwd.startswith("/"):
        return path
    return normpath(f"{cwd}/{path}")


@lru_cache(maxsize=1)
def _tool_modules() -> frozenset[str]:
    return frozenset(current().tool_modules.scripts)
