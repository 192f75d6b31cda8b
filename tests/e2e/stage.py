"""The stage on which scenarios play: a folder that becomes their root, and addresses that answer.

Nothing real is executed and nothing leaves the machine: every program is a copy of one small actor, and the addresses that
scenarios connect to answer on the loopback of a private network namespace, to connections from another address.
"""

import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

from e2e import tree
from falco.event import OWN_ADDRESS


class Stage:
    """The folder that becomes the root of played processes, and the addresses they may connect to."""

    def __init__(self, root: Path, actor: Path) -> None:
        self.root, self.actor = root, actor
        self._listening: set[tuple[str, int]] = set()

    def prepare(self) -> None:
        """Mount what processes need to live, and bring loopback up."""
        for folder in ("dev", "proc", "sys/fs/cgroup", "plan", "tmp"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        self._mount("dev", "--rbind", "/dev")
        self._mount("sys/fs/cgroup", "--rbind", "/sys/fs/cgroup")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "address", "replace", f"{OWN_ADDRESS}/32", "dev", "lo"], check=True)

    def clear(self) -> None:
        """Unmount everything below the root, innermost first."""
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for point in sorted((p for p in mounted if p.startswith(f"{self.root}/")), reverse=True):
            subprocess.run(["umount", "-l", point], check=False)

    def _mount(self, where: str, *what: str) -> None:
        point = self.root / where
        if not point.is_mount():
            subprocess.run(["mount", *what, str(point)], check=True)

    def install(self, process: tree.Process) -> None:
        """Put the actor where the process's program file must be, whatever an earlier scenario left there."""
        self._place(process.behind or process.file, "")
        if process.behind:
            self._place(process.file, process.behind)

    def _place(self, path: str, link: str) -> None:
        full = self.root / path.lstrip("/")
        full.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(full):
            if (str(full.readlink()) if full.is_symlink() else "") == link:
                return
            full.unlink()
        if link:
            full.symlink_to(link)
        else:
            shutil.copy(self.actor, full)

    def provide(self, kind: str, what: str) -> None:
        """Make a file readable, a folder writable or an address answer."""
        if kind in ("conn", "try", "plug"):
            self._reach(what, answers=kind != "try")
        elif kind in ("read", "write"):
            full = self.root / what.lstrip("/")
            full.parent.mkdir(parents=True, exist_ok=True)
            if kind == "read" and not full.exists():
                full.write_text("harmless test content\n")

    def _reach(self, address: str, *, answers: bool) -> None:
        """Bring an address into this namespace; those that connect to it come from OWN_ADDRESS."""
        host, _, port = address.rpartition(":")
        if not host.startswith("127."):
            route = ["ip", "route", "replace", "local", host, "dev", "lo", "src", OWN_ADDRESS, "table", "local"]
            subprocess.run(route, check=True)
        if answers and (host, int(port)) not in self._listening:
            self._listening.add((host, int(port)))
            server = socket.create_server((host, int(port)), backlog=16, reuse_port=True)
            threading.Thread(target=_hang_up, args=(server,), daemon=True).start()


def _hang_up(server: socket.socket) -> None:
    while True:
        server.accept()[0].close()
