"""Reads scenarios: who starts whom, and what each process then does.

A scenario plays *chains*. `[php-fpm8.2, sh -c "id", id]` is php-fpm starting a shell that starts id; the next chain
shares the processes that it begins with in the same words. An entry may be a deed of the process before it:
`reads FILE`, `writes FILE`, `connects IP:PORT`, `tries IP:PORT` (a connection that is refused), `links FILE` (makes a
symbolic link to it), `exits`; `plugs IP:PORT` makes a connection its standard input and output, and those of what it
starts next; `listens PORT` or `listens IP:PORT` (port 0 for any), `listens /PATH` (a unix socket), `listens ?` (on a
descriptor that Falco lost sight of). Before its command a process may carry marks, and before what it touches a deed:

- of a process: `[terminal]`, `[setsid]`, `[detached]` (double fork), `[enters]` (as `kubectl exec` does), `[fork]` (a copy
  of its parent, no exec), `[becomes]` (exec in place), `[exe=PATH]` (the program file behind the name), `[as=PATH]` (that
  program, but with another argv[0]), `[name=WORD]` (the name that it gave itself, by prctl), `[cwd=PATH]`, `[activated]`
  (systemd gave it a socket that listens: LISTEN_FDS is set);
- of both: the layer of the file, `[upper]` (written in the container), `[lower]` (of the image) or `[neither]` (a volume,
  memory, the host). Without a mark a file of a container is of the image, on a host it is neither;
- of a deed: `[dev=HEX,ino=NUMBER]`, the file behind the name; `[thread]`, not by the main thread (a debugger listens so).

`watched: true` beside the play says that Falco and our rules were there before it began: what then never listens, serves
nothing. Without it nobody knows. Layers, inodes, names and `watched` are for the evaluator (`falco.playing`); a live
engine sees those of the machine.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from support import fast_yaml

DEEDS = ("reads ", "writes ", "connects ", "tries ", "listens ", "links ", "plugs ", "exits")
KINDS = {
    "reads": "read",
    "writes": "write",
    "connects": "conn",
    "tries": "try",
    "listens": "listen",
    "links": "link",
    "plugs": "plug",
    "exits": "exit",
}
ANY_ADDRESS = "0.0.0.0"
MARKS = re.compile(r"\[([^\]]*)\] ")
PROGRAMS = {
    "sh": "/usr/bin/dash",
    "ash": "/bin/busybox",
    "python3": "/usr/bin/python3.11",
    "nginx": "/usr/sbin/nginx",
    "apache2": "/usr/sbin/apache2",
    "httpd": "/usr/local/apache2/bin/httpd",
    "php-fpm": "/usr/local/sbin/php-fpm",
    "php-fpm8.2": "/usr/sbin/php-fpm8.2",
    "php": "/usr/bin/php8.2",
    "node": "/usr/local/bin/node",
    "java": "/usr/lib/jvm/java-17/bin/java",
    "jspawnhelper": "/usr/lib/jvm/java-17/lib/jspawnhelper",
    "postgres": "/usr/lib/postgresql/16/bin/postgres",
    "gunicorn": "/usr/bin/python3.11",
    "uvicorn": "/usr/bin/python3.11",
    "celery": "/usr/bin/python3.11",
    "jupyter-lab": "/opt/conda/bin/python3.11",
    "puma": "/usr/local/bin/ruby",
    "systemd": "/usr/lib/systemd/systemd",
    "aws": "/usr/bin/python3.11",
}


@dataclass
class Process:
    """One process: its argv, the program file it runs, how it starts, and its deeds in order of time."""

    argv: list[str]
    file: str
    behind: str = ""
    marks: frozenset[str] = frozenset()
    number: int = 0
    deeds: list[tuple[int, str, Any]] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)

    @property
    def replaced(self) -> bool:
        """Whether it ends by itself: it exits or becomes another program."""
        return any(kind in ("exec", "exit") for _, kind, _ in self.deeds)


class Target(str):  # noqa: SLOT000 - a handful of them
    """What a deed touches, with its marks."""

    marks: frozenset[str] = frozenset()
    options: Mapping[str, str] = MappingProxyType({})


@dataclass
class Scenario:
    """A named play with what must come of it."""

    name: str
    container: bool
    case: str | None
    severity: str | None
    groups: frozenset[str]
    chains: list[list[str]]
    kind: str = ""
    watched: bool = False
    plugin: bool = False
    """Its outcome is certain only with our Falco plugin."""


def load(path: Path) -> list[Scenario]:
    """The scenarios of one file, which maps a kind (`attacks`, `benign`) to a list."""
    return [scenario(kind, item) for kind, items in fast_yaml.load(path.read_text()).items() for item in items]


def scenario(kind: str, item: dict[str, Any]) -> Scenario:
    """One scenario of a file."""
    case = item.get("case")
    groups = frozenset(item.get("groups", ()))
    watched, plugin = item.get("watched", False), item.get("plugin", False)
    in_container = item["in"] == "container"
    return Scenario(item["name"], in_container, case, item.get("severity"), groups, item["play"], kind, watched, plugin)


def grow(scenario: Scenario) -> tuple[list[Process], int]:
    """The processes of a scenario, the top one first, and the slot at which all is over."""
    grower = _Grower(scenario.container)
    for chain in scenario.chains:
        grower.chain(chain)
    return grower.processes, grower.slot + 3


class _Grower:
    """Walks the chains and gives every new process and deed the next slot of time."""

    def __init__(self, container: bool) -> None:
        shim, init = "containerd-shim -namespace k8s.io", "systemd --system"
        self.container = container
        self.processes = [parse(shim if container else init)]
        self.known: dict[tuple[int, str], Process] = {}
        self.slot = 1

    def chain(self, entries: list[str]) -> None:
        at = self.processes[0]
        for depth, entry in enumerate(entries):
            if entry.startswith(DEEDS):
                self._deed(at, entry)
            elif depth or self.container or not entry.startswith("systemd"):
                at = self._step(at, entry)

    def _step(self, parent: Process, entry: str) -> Process:
        key = (parent.number, entry)
        if key not in self.known:
            self.known[key] = self._start(parent, parse(entry))
        return self.known[key]

    def _start(self, parent: Process, child: Process) -> Process:
        child.marks |= self._placement(parent, child)
        child.number = len(self.processes)
        self.processes.append(child)
        how = "fork" if "fork" in child.marks else "exec" if "becomes" in child.marks else "child"
        parent.deeds.append((self.slot, how, child.number))
        self.slot += 1
        return child

    def _placement(self, parent: Process, child: Process) -> set[str]:
        if parent.number or len(self.processes) == 0:
            return set()
        if not self.container:
            return {"setsid"}
        if "enters" not in child.marks:
            return {"namespace", "cgroup"} if len(self.processes) == 1 else {"cgroup"}
        if len(self.processes) == 1:
            self._step(parent, "[exe=/pause] pause")
        return {"cgroup"}

    def _deed(self, process: Process, entry: str) -> None:
        verb, _, what = entry.partition(" ")
        deed = (KINDS[verb], _target(verb, what))
        if deed[0] == "plug" and deed in ((kind, to) for _, kind, to in process.deeds):
            return
        process.deeds.append((self.slot, *deed))
        self.slot += 1


def _target(verb: str, entry: str) -> Target:
    plain, options, what = _marks(entry)
    target = Target(f"{ANY_ADDRESS}:{what}" if verb == "listens" and what.isdecimal() else what)
    target.marks = plain
    target.options = options
    return target


def parse(entry: str) -> Process:
    """One process from its entry in a chain."""
    plain, options, command = _marks(entry)
    argv = shlex.split(command)
    name = PurePosixPath(argv[0].lstrip("-")).name
    if "as" in options:
        return Process(argv, options["as"], marks=plain, options=options)
    behind = options.get("exe") or PROGRAMS.get(name, "")
    file = argv[0] if argv[0].startswith("/") else ""
    if not file:
        file = behind if PurePosixPath(behind).name == name else f"/usr/bin/{name}"
        argv[0] = name if not argv[0].startswith("-") else argv[0]
    return Process(argv, file, behind if behind != file else "", plain, options=options)


def _marks(entry: str) -> tuple[frozenset[str], dict[str, str], str]:
    """The plain marks before an entry, those with a value, and the rest."""
    marks: list[str] = []
    while found := MARKS.match(entry):
        marks += found[1].split(",")
        entry = entry[found.end() :]
    options = dict(mark.split("=", 1) for mark in marks if "=" in mark)
    return frozenset(mark for mark in marks if "=" not in mark), options, entry


def needs(processes: list[Process]) -> Iterator[tuple[str, str]]:
    """What a scenario touches outside its processes: `(read|write|conn|try|plug, what)`."""
    return ((kind, what) for process in processes for _, kind, what in process.deeds if isinstance(what, str))
