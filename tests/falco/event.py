"""One event as Falco's fields, real or made up from a chain of processes.

The made-up ones have what Falco would show of the chain's last process: its own names and command line, those of its
ancestors, and the file or connection that it touches.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from e2e import tree

MAXIMUM_NAME = 15
"""The kernel cuts a process's name here."""

DEEPEST = 9
ANY_ANCESTOR = ("proc.aname", "proc.aexepath", "proc.acmdline", "proc.apid")
FALLBACKS = {
    "proc.aname[1]": "proc.pname",
    "proc.aexepath[1]": "proc.pexepath",
    "proc.acmdline[1]": "proc.pcmdline",
    "proc.apid[1]": "proc.ppid",
    "fd.snet": "fd.sip",
}
TERMINAL = 34816
REFUSED = -111
YOUNG = 60 * 10**9
"""Nanoseconds for which the container has been there."""

EXEC = {"evt.type": "execve", "evt.num": 1, "evt.rawres": 0}
OWN_ADDRESS = "10.1.2.3"
"""Where connections come from. `fd.rip` and `fd.rport` show it wherever Falco does not know the container's address."""


class Event:
    """The fields of one event; a field without a value is absent."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = {name: value for name, value in fields.items() if value is not None}
        self.answers: dict[Callable[[Event], bool], bool] = {}

    def values(self, field: str) -> list[Any]:
        """The values of a field: none, one, or one of each ancestor where no index is given."""
        if field in ANY_ANCESTOR:
            return [v for index in range(1, DEEPEST) for v in self.values(f"{field}[{index}]")]
        value = self.fields.get(field, self.fields.get(FALLBACKS.get(field, "")))
        return [] if value is None else [value]


def from_chain(chain: list[str], *, container: bool) -> Event:
    """The event that a chain ends in: the exec of its last process, or that process's last deed."""
    scenario = tree.Scenario("", container, None, None, frozenset(), [chain])
    processes, _ = tree.grow(scenario)
    line = list(_line(processes, chain))
    fields = of_process(line, container=container)
    if any(entry.startswith("plugs ") for entry in chain[:-1]):
        fields |= {"proc.stdin.type": "ipv4", "proc.stdout.type": "ipv4"}
    if not chain[-1].startswith(tree.DEEDS):
        return Event(fields | EXEC)
    _, kind, what = max(deed for process in processes for deed in process.deeds)
    return Event(fields | of_deed(kind, what, container=container))


def _line(processes: list[tree.Process], chain: list[str]) -> Iterator[tree.Process]:
    """The processes of the chain, nearest first; one that became another is not there any more."""
    steps = [p for p in processes[1:] if p.argv != ["pause"] or "pause" in chain]
    replaced = {index for index, step in enumerate(steps[1:]) if "becomes" in step.marks}
    yield from reversed([p for i, p in enumerate([processes[0], *steps]) if i - 1 not in replaced])


def of_process(line: list[tree.Process], *, container: bool) -> dict[str, Any]:
    """The fields of a process; `line` is it and its ancestors."""
    own = line[0]
    fields: dict[str, Any] = {
        "proc.name": name(own),
        "proc.exe": own.argv[0],
        "proc.exepath": own.behind or own.file,
        "proc.args": " ".join(own.argv[1:]),
        "proc.cmdline": _command(own),
        "proc.cwd": own.options.get("cwd", "/"),
        "proc.tty": TERMINAL if any("terminal" in process.marks for process in line) else 0,
        "proc.vpid": len(line) - 1,
        "proc.pvpid": len(line) - 2,
        "proc.is_exe_from_memfd": False,
        "proc.is_exe_upper_layer": layer(own.marks, container=container) == "upper",
        "proc.is_exe_lower_layer": layer(own.marks, container=container) == "lower",
        "thread.ismain": True,
        "proc.stdin.type": "file",
        "proc.stdout.type": "file",
        "proc.env[LISTEN_FDS]": "1" if "activated" in own.marks else None,
        "container.id": "97940276b482" if container else "host",
        "container.duration": YOUNG if container else None,
    }
    for index, ancestor in enumerate(line[1:DEEPEST], 1):
        fields[f"proc.aname[{index}]"] = name(ancestor)
        fields[f"proc.aexepath[{index}]"] = ancestor.behind or ancestor.file
        fields[f"proc.acmdline[{index}]"] = _command(ancestor)
    for short, long in (("pname", "aname"), ("pexepath", "aexepath"), ("pcmdline", "acmdline")):
        fields[f"proc.{short}"] = fields.get(f"proc.{long}[1]")
    return fields


def name(process: tree.Process) -> str:
    """What the kernel calls a process: the name of the file that was executed, unless it gave itself another."""
    return process.options.get("name", PurePosixPath(process.file).name)[:MAXIMUM_NAME]


def layer(marks: frozenset[str], *, container: bool) -> str:
    """The layer that a file is said to be of: `upper`, `lower` or `neither`."""
    said = marks & {"upper", "lower", "neither"}
    return next(iter(said), "lower" if container else "neither")


def _command(process: tree.Process) -> str:
    return " ".join([name(process), *process.argv[1:]])


def of_deed(kind: str, what: tree.Target, *, container: bool) -> dict[str, Any]:
    """The fields of what a process does."""
    if kind in ("conn", "plug"):
        return _connection(what)
    if kind == "link":
        return {"evt.type": "symlink", "evt.num": 1, "evt.rawres": 0, "fs.path.target": str(what)}
    if kind == "listen":
        return _server(what)
    if kind == "try":
        return {"evt.type": "connect", "evt.num": 1, "evt.rawres": REFUSED, "evt.arg.addr": str(what)}
    return {
        "evt.type": "openat",
        "evt.num": 1,
        "evt.rawres": 3,
        "evt.is_open_read": kind == "read",
        "evt.is_open_write": kind == "write",
        "fd.name": str(what),
        "fd.typechar": "f",
        "fd.is_upper_layer": layer(what.marks, container=container) == "upper",
        "fd.is_lower_layer": layer(what.marks, container=container) == "lower",
        "fd.dev": what.options.get("dev"),
        "fd.ino": int(what.options["ino"]) if "ino" in what.options else None,
    }


def _server(at: tree.Target) -> dict[str, Any]:
    fields = {"evt.type": "listen", "evt.num": 1, "evt.rawres": 0, "fd.name": str(at)}
    fields |= {"thread.ismain": False} if "thread" in at.marks else {}
    if at == "?":
        return fields | {"fd.name": ""}
    if at.startswith("/"):
        return fields | {"fd.typechar": "u"}
    address, _, port = at.rpartition(":")
    fields |= {"fd.typechar": "4"}
    if port == "0":  # Falco shows neither address nor protocol
        return fields
    return fields | {"fd.sip": address, "fd.sport": int(port), "fd.l4proto": "tcp"}


def _connection(to: str) -> dict[str, Any]:
    address, _, port = to.rpartition(":")
    return {
        "evt.type": "connect",
        "evt.num": 1,
        "evt.rawres": 0,
        "evt.arg.addr": to,
        "fd.name": f"{OWN_ADDRESS}:40000->{to}",
        "fd.cip": OWN_ADDRESS,
        "fd.cport": 40000,
        "fd.sip": address.strip("[]"),
        "fd.sport": int(port),
        "fd.rip": OWN_ADDRESS,
        "fd.rport": 40000,
        "fd.l4proto": "tcp",
        "fd.typechar": "6" if ":" in address else "4",
    }
