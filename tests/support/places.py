"""Containers made of namespaces, and stand-ins for `kubectl` and `docker` that act on them: for the commands of next steps.

A pod is one network namespace with containers, each with its own PID namespace and root folder. The stand-ins know as much
of kubectl and docker as the commands use, and what matters of it: `exec` without `-c` takes the first container, `logs` with
a selector shows ten lines, `debug --target` joins the PID namespace of one container, with a root folder of its own.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from support.waiting import wait_until

PROGRAMS = ("sleep", "busybox")
"""First processes of containers, once they are in their root folders."""

TICKS = os.sysconf("SC_CLK_TCK")
ENTER = ("nsenter", "--pid", "--net", "--mount", "--root", "--wd")


def busybox_root(root: Path) -> Path:
    """A root folder as of Alpine: busybox and its names."""
    binary = shutil.which("busybox")
    assert binary
    (root / "bin").mkdir(parents=True)
    shutil.copy(binary, root / "bin/busybox")
    for name in subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    return _finished(root)


def slim_root(root: Path) -> Path:
    """A root folder as of a slim Debian: a shell and GNU find, but no `kill`, `ps`, or `ss`."""
    for program in ("sh", "sleep", "cat", "find", "touch"):
        _take_program(root, Path(os.path.realpath(str(shutil.which(program)))), program)
    return _finished(root)


def distroless_root(root: Path) -> Path:
    """A root folder with one program, which is none of those that commands name."""
    (root / "app").mkdir(parents=True)
    binary = shutil.which("busybox")
    assert binary
    shutil.copy(binary, root / "app/busybox")
    return _finished(root)


def _take_program(root: Path, program: Path, name: str) -> None:
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    libraries = [word for word in linked.split() if word.startswith("/")]
    for source, target in [(program, f"/usr/bin/{name}"), *((Path(library), library) for library in libraries)]:
        to = root / target.lstrip("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        if not to.exists():
            shutil.copy(source, to)


def _finished(root: Path) -> Path:
    for folder in ("proc", "tmp", "srv", "dev"):
        (root / folder).mkdir(exist_ok=True)
    (root / "srv/old.php").write_text("old")
    os.utime(root / "srv/old.php", (1, 1))
    for path in root.rglob("*"):
        if not path.is_symlink() and path.is_file():
            os.utime(path, (1, 1))
    return root


class Container:
    """A running container: its first process sleeps."""

    def __init__(self, name: str, root: Path, network_of: "Container | None" = None) -> None:
        self.name, self.root = name, root
        self.pid = 0
        self.id = f"{abs(hash((name, str(root)))):012x}"[:12]
        network = ["nsenter", f"--net=/proc/{network_of.pid}/ns/net"] if network_of else []
        new = ["unshare", *([] if network_of else ["--net"]), "--pid", "--mount", "--fork", "--kill-child"]
        script = 'mount -t proc proc "$0/proc" && exec env -i PATH=/bin:/usr/bin:/sbin:/usr/sbin chroot "$0" "$@"'
        self._outer = subprocess.Popen([*network, *new, "sh", "-c", script, root, *self._program("sleep", "3600")])
        self.pid = self._first_process()

    def _program(self, name: str, *arguments: str) -> list[str]:
        if (self.root / "app/busybox").exists():
            return ["/app/busybox", name, *arguments]
        return [name, *arguments]

    def _first_process(self) -> int:
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")

        def ready() -> int:
            assert self._outer.poll() is None
            pids = children.read_text().split()
            return int(pids[0]) if pids and Path(f"/proc/{pids[0]}/comm").read_text().strip() in PROGRAMS else 0

        wait_until(lambda: bool(ready()))
        return ready()

    def start_shell(self) -> "Process":
        """Start a shell in it, which waits for a program that it started."""
        return self.start("sh", "-c", f"{' '.join(self._program('sleep', '3000'))}; true")

    def start(self, *command: str) -> "Process":
        """Start a process in it, as a child of nobody in it, as a service would. Gives it once it runs."""
        script = self._program(*command)
        enter = [*ENTER, "--target", str(self.pid), *script]
        outer = subprocess.Popen(enter, stdin=subprocess.DEVNULL, env={"PATH": "/bin:/usr/bin"})
        return Process(outer, entered=True)

    def close(self) -> None:
        """End it with everything in it."""
        self._outer.kill()
        self._outer.wait()
        subprocess.run(["umount", "-l", self.root / "proc"], check=False, capture_output=True)


class Process:
    """A process in a container, or on the host: its number here and there, and when it started."""

    def __init__(self, outer: "subprocess.Popen[bytes]", *, entered: bool = False) -> None:
        self.outer = outer
        self._is_entered = entered
        wait_until(lambda: bool(self._inner()))
        self.pid = self._inner()
        status = Path(f"/proc/{self.pid}/status").read_text()
        self.vpid = int(status.partition("NSpid:")[2].partition("\n")[0].split()[-1])

    def _inner(self) -> int:
        """The process that `nsenter` started; the process itself on the host."""
        if not self._is_entered:
            return self.outer.pid
        pids = Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()
        comm = Path(f"/proc/{pids[0]}/comm").read_text().strip() if pids else "nsenter"
        return int(pids[0]) if comm != "nsenter" else 0

    def kill(self) -> None:
        """End it, if it has not ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.outer.kill()
        self.outer.wait()

    @property
    def start_ns(self) -> int:
        """When it started, in nanoseconds since 1970, as Falco says it."""
        ticks = int(Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()[19])
        boot = next(int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if "btime" in line)
        return boot * 1_000_000_000 + ticks * 1_000_000_000 // TICKS

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return runs(self.pid)

    def has_ended(self, why: str = "") -> None:
        """Wait until it has ended; `why` it might not."""
        wait_until(lambda: not self.is_alive, why=f"it lives: {why}")
        self.outer.kill()  # nsenter stops with the process that it started, and may never see the end
        self.outer.wait()


def runs(pid: int) -> bool:
    """Whether a process runs: what has ended stays in the table where nobody waits for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def stand_ins(folder: Path, state: dict[str, Any]) -> dict[str, str]:
    """An environment in which `kubectl` and `docker` are the stand-ins, acting on what `state` says."""
    folder.mkdir()
    tests = Path(__file__).parents[1]
    (folder / "state.json").write_text(json.dumps(state))
    for name in ("kubectl", "docker", "journalctl"):
        script = folder / name
        script.write_text(f'#!/bin/sh\nPYTHONPATH={tests} exec {sys.executable} {__file__} {folder} {name} "$@"\n')
        script.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def typed(command: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """A command as a person types it into a shell."""
    return subprocess.run(
        ["sh", "-c", command], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def say(text: str, out: TextIO = sys.stdout) -> None:
    """What a program prints."""
    out.write(f"{text}\n")


def _options(words: Sequence[str]) -> tuple[dict[str, str], list[str], list[str]]:
    """Options, words, and what follows `--`."""
    with_value = {
        "-n",
        "-c",
        "-l",
        "-f",
        "-p",
        "-o",
        "--type",
        "--image",
        "--profile",
        "--target",
        "--since-time",
        "--since",
    }
    options: dict[str, str] = {}
    plain: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            plain.append(word)
        elif name in with_value and not equals:
            options[name] = rest.pop(0)
        else:
            options[name] = value
    return options, plain, rest


def _enter(container: dict[str, Any], command: Sequence[str]) -> int:
    root = Path(container["root"])
    program = command[0]
    found = any((root / folder / program).exists() for folder in ("bin", "usr/bin"))
    if not found:
        say(f'exec: "{program}": executable file not found in $PATH', sys.stderr)
        return 126
    enter = [*ENTER, "--target", str(container["pid"]), *command]
    return subprocess.run(enter, env={"PATH": "/bin:/usr/bin"}, check=False).returncode


def _debug(state: dict[str, Any], container: dict[str, Any], command: Sequence[str]) -> int:
    tools = state["tools"]
    script = 'mount -t proc proc "$0/proc" && exec env -i PATH=/bin:/usr/bin:/sbin:/usr/sbin chroot "$0" "$@"'
    join = ["nsenter", "--target", str(container["pid"]), "--pid", "--net"]
    return subprocess.run([*join, "unshare", "--mount", "sh", "-c", script, tools, *command], check=False).returncode


def _kubectl(state: dict[str, Any], save: Callable[[], int], words: Sequence[str]) -> int:  # noqa: C901, PLR0911
    options, plain, rest = _options(words)
    verb = plain[0]
    namespace = options.get("-n", "default")
    if verb == "get" and plain[1] == "pods":
        say("\n".join(f"{pod['namespace']} {name} 1/1" for name, pod in state["pods"].items() if pod.get("falco")))
        return 0
    if verb == "apply":
        state["policies"].append({"namespace": namespace, **json.loads(sys.stdin.read())})
        return save()
    if verb == "auth":
        say(f"secrets [] [] [get] {options['--as']}")
        return 0
    pod = state["pods"][plain[2] if verb in ("get", "patch") else plain[1]]
    assert pod["namespace"] == namespace
    names = list(pod["containers"])
    if verb == "get":
        say("shop-account")
    elif verb == "patch":
        (change,) = json.loads(options["-p"])
        assert (change["op"], change["path"]) == ("add", "/metadata/labels")
        pod["labels"] = change["value"]
        return save()
    elif verb == "logs":
        lines = pod["log"]
        say("\n".join(line for line in lines if line[:20] >= options.get("--since-time", "")[:20]))
    elif verb == "exec":
        return _enter(pod["containers"][options.get("-c", names[0])], rest)
    elif verb == "debug":
        assert options["--profile"] == "general"  # without it another user's /proc/1/root cannot be read
        return _debug(state, pod["containers"][options["--target"]], rest)
    return 0


def _docker(state: dict[str, Any], save: Callable[[], int], words: Sequence[str]) -> int:
    options, plain, _ = _options([word for word in words if (word, words[0]) != ("-f", "network")])
    container = state["docker"].get(plain[-1])
    if plain[0] == "inspect":
        template = options["-f"]
        shown = "\n".join(container["networks"]) if "Networks" in template else str(container["pid"])
        say("[] []" if "json" in template else shown)
    elif plain[0] == "network":
        if plain[2] == "host":
            say("container cannot be disconnected from host network", sys.stderr)
            return 1
        container["networks"].remove(plain[2])
    elif plain[0] == "pause":
        container["paused"] = True
    elif plain[0] == "logs":
        say("\n".join(container["log"]))
    elif plain[0] == "diff":
        say("A /srv/shell.php")
    return save()


def _main(folder: Path, program: str, words: Sequence[str]) -> int:
    file = folder / "state.json"
    state = json.loads(file.read_text())

    def save() -> int:
        file.write_text(json.dumps(state))
        return 0

    if program == "journalctl":
        say("\n".join(state["journal"]))
        return 0
    return (_kubectl if program == "kubectl" else _docker)(state, save, words)


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
