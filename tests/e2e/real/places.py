"""Where a service runs: on this host, or in a container of runc on overlayfs."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

LAYERS = Path("/run/falco-correlator-e2e")
"""A tmpfs: the upper layers of containers, secrets, and what the host's runs write."""

IMAGE = Path("/srv/falco-correlator-e2e")
"""Files of the applications: on the disk of this host, and in the lower layer of every container."""

SSH_PORT = 18022
ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"
CGROUPS = Path("/sys/fs/cgroup")
CONTROLLER = "cpuacct"
"""A hierarchy that limits nothing; Falco shows its part of `thread.cgroups`, but not that of `pids`."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOME = "/srv/falco-correlator-e2e/home"
CAPABILITIES = [
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW"),
    *("CAP_SETFCAP", "CAP_SETGID", "CAP_SETUID", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETPCAP"),
]


def container_id(name: str) -> str:
    """The id of the container of a run."""
    return hashlib.sha256(name.encode()).hexdigest()


class Place:
    """A host, where every process of a run is found again by its cgroup."""

    kind = "host"

    def __init__(self, name: str) -> None:
        self.name = name
        self.cgroup = f"falco-correlator-e2e/{container_id(name)[:6]}-{name}"
        self.output = LAYERS / f"{name}.log"

    def environment(self) -> dict[str, str]:
        """What every program of the run gets."""
        return {"PATH": PATH, "HOME": HOME, "CASE": self.name, "LANG": "C.UTF-8"}

    def start(self, commands: Sequence[Sequence[str]]) -> None:
        """Start the programs of a service, as its init system would."""
        for command in commands:
            self._spawn(["setsid", "--fork", *command], self.environment()).wait(10)

    def _spawn(self, command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        self.output.parent.mkdir(exist_ok=True)
        with self.output.open("ab") as log:
            return subprocess.Popen(
                command,
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=self._enter_cgroup,  # noqa: PLW1509 - nothing holds a lock there
            )

    def _enter_cgroup(self) -> None:
        folder = CGROUPS / CONTROLLER / self.cgroup
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").write_text("0")

    def enter(self, command: Sequence[str], *, terminal: bool = False) -> subprocess.CompletedProcess[bytes]:
        """Run a command as an administrator: over ssh on a host, by `exec` in a container."""
        words = [*ssh_client(), *(["-tt"] if terminal else ["-T"]), _quoted(command)]
        return subprocess.run(words, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)

    def path(self, inside: str) -> Path:
        """Where a file of the place is for us."""
        return Path(inside)

    def end(self) -> None:
        """End every process of the run, however far it went."""
        for folder in (CGROUPS / CONTROLLER / self.cgroup,):
            for _ in range(20):
                pids = (folder / "cgroup.procs").read_text().split() if folder.exists() else []
                for pid in map(int, pids):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                if not pids:
                    break
                time.sleep(0.05)
            with suppress(OSError):
                folder.rmdir()


class Container(Place):
    """A container on overlayfs, with this machine's files as its image and the network of the caller."""

    kind = "container"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.id = container_id(name)
        self.folder = LAYERS / name
        self.root = self.folder / "root"

    def start(self, commands: Sequence[Sequence[str]]) -> None:
        for part in ("root", "upper", "work", "token"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        layers = f"lowerdir=/,upperdir={self.folder}/upper,workdir={self.folder}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self.root], check=True)
        write_token(self.folder / "token")
        (self.folder / "config.json").write_text(json.dumps(self._specification(commands)))
        self._spawn(["runc", "run", "--detach", "-b", str(self.folder), self.id], dict(os.environ)).wait(20)

    def _enter_cgroup(self) -> None:
        """The container has its own, made by runc."""

    def enter(self, command: Sequence[str], *, terminal: bool = False) -> subprocess.CompletedProcess[bytes]:
        words = ["runc", "exec", *(["-t"] if terminal else []), self.id, *command]
        words = ["script", "-qec", _quoted(words), "/dev/null"] if terminal else words
        with tempfile.TemporaryDirectory(dir=LAYERS) as name:
            return _detached(words, Path(name))

    def path(self, inside: str) -> Path:
        return self.root / inside.lstrip("/")

    def end(self) -> None:
        subprocess.run(["runc", "delete", "-f", self.id], capture_output=True, check=False)
        subprocess.run(["umount", "-l", self.root], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _specification(self, commands: Sequence[Sequence[str]]) -> dict[str, object]:
        return {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": False,
                "user": {"uid": 0, "gid": 0},
                "args": _entry(commands),
                "env": [f"{name}={value}" for name, value in self.environment().items()],
                "cwd": "/",
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            },
            "root": {"path": str(self.root), "readonly": False},
            "hostname": self.name,
            "mounts": [
                *(
                    _mount("/proc", "proc"),
                    _mount("/dev", "tmpfs", "nosuid", "mode=755"),
                    _mount("/dev/pts", "devpts", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
                    _mount("/dev/shm", "tmpfs", "nosuid", "nodev", "mode=1777"),
                    _mount("/sys", "sysfs", "ro"),
                ),
                {"destination": ACCOUNT, "type": "bind", "source": f"{self.folder}/token", "options": ["bind", "ro"]},
            ],
            "linux": {
                "cgroupsPath": f"/kubepods/besteffort/pod{self.id[:8]}-1111-2222-3333-444444444444/{self.id}",
                "namespaces": [
                    *({"type": kind} for kind in ("pid", "ipc", "uts", "mount")),
                    {"type": "network", "path": f"/proc/{os.getpid()}/ns/net"},
                ],
            },
        }


def _detached(command: Sequence[str], folder: Path, seconds: float = 60) -> subprocess.CompletedProcess[bytes]:
    """Run a command below nothing but init, as a container's runtime is run: no program of ours is above it."""
    said, done = folder / "said", folder / "done"
    line = f'"$@" >{said} 2>&1 </dev/null; echo $? >{done}.new; mv {done}.new {done}'
    subprocess.run(["setsid", "--fork", "sh", "-c", line, "sh", *command], check=True, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + seconds
    while not done.exists():
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired(command, seconds)
        time.sleep(0.05)
    return subprocess.CompletedProcess(command, int(done.read_text()), said.read_bytes())


def ssh_client() -> list[str]:
    """The way to the ssh server of the workstation."""
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    return ["ssh", "-i", str(LAYERS / "ssh/key"), "-p", str(SSH_PORT), *options, "root@127.0.0.1"]


def start_ssh_server(place: Place) -> None:
    """Start a real sshd, so that administrators of this host come as they do."""
    folder = LAYERS / "ssh"
    folder.mkdir(exist_ok=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("key", "host"):
        if not (folder / name).exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    (folder / "config").write_text(
        f"Port {SSH_PORT}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/key.pub\n"
        "StrictModes no\nPermitRootLogin yes\nUsePAM no\nPidFile none\nMaxStartups 100\n"
        f"SetEnv HOME={HOME}\n"  # nothing of this machine's own start-up files
    )
    place.start([["/usr/sbin/sshd", "-D", "-f", str(folder / "config")]])


def write_token(folder: Path) -> None:
    """A service account's files as kubelet lays them out."""
    data = folder / "..2026_11_28"
    data.mkdir(parents=True, exist_ok=True)
    for name, text in (("token", "eyJhbGciOiJub25lIn0.eyJub25lIjoibm9uZSJ9.none"), ("namespace", "shop")):
        (data / name).write_text(text + "\n")
        (data / name).chmod(0o644)
        (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data").symlink_to(data.name)
    folder.chmod(0o755)


def _entry(commands: Sequence[Sequence[str]]) -> list[str]:
    """The first process: the only program, or an entry script that starts several."""
    *before, last = commands
    if not before:
        return [*last]
    return ["/bin/sh", "-c", " ".join(f"{_quoted(command)} &" for command in before) + f" exec {_quoted(last)}"]


def _quoted(command: Sequence[str]) -> str:
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in command)


def _mount(where: str, kind: str, *options: str) -> dict[str, object]:
    return {"destination": where, "type": kind, "source": kind, "options": [*options]}
