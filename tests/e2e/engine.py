"""A real Falco, with the shipped rules and the shipped configuration, as a child process."""

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "falco_rules"
RULES = SHIPPED / "web_rce_rules.yaml"
PROBE = HERE / "probe.yaml"
PLUGIN = Path("/usr/share/falco/plugins/libcontainer.so")
READY = "Opening 'syscall' source"
FIRST_EVENT = "first-event"
"""The scenario of a program that starts until Falco has seen it."""

NICE = "-10"
BUFFERS = 6
"""Before others' work on this machine, and with buffers of 32 MB a core: events that are lost are not what is tested."""

ANCESTORS = [f"proc.{what}[{n}]" for what in ("aname", "aexepath", "acmdline") for n in range(1, 9)]
PROBED = [
    *("evt.num", "evt.type", "evt.rawres", "evt.is_open_read", "evt.is_open_write"),
    *(
        "fd.name",
        "fd.sip",
        "fd.sport",
        "fd.cip",
        "fd.rip",
        "evt.arg.addr",
        "fs.path.target",
        "fd.l4proto",
        "fd.typechar",
        "thread.ismain",
        "container.id",
    ),
    *("proc.name", "proc.exe", "proc.exepath", "proc.args", "proc.cmdline", "proc.cwd", "proc.tty", "proc.vpid"),
    *("proc.is_exe_from_memfd", "proc.is_exe_upper_layer", "proc.stdin.type", "proc.stdout.type", "proc.duration"),
    *("fd.dev", "fd.ino", "fd.is_upper_layer", "container.duration"),
    *("proc.pname", "proc.pexepath", "proc.pcmdline"),
]


class EngineError(Exception):
    """Falco refused the rules or did not start."""


class Engine:
    """Falco over the scenarios: alerts go to a file of JSON lines and to the sidecar."""

    def __init__(
        self,
        falco: Path,
        plugin: Path,
        folder: Path,
        beside: Sequence[Path] = (),
        docker: Path | None = None,
        lineage: Path | None = None,
        *,
        rules: Path = RULES,
        probe: Path = PROBE,
    ) -> None:
        """`docker` is the socket at which the plugin asks for the addresses of containers.

        `lineage` is our own plugin, if it should be loaded beside; `rules` are ours, or others to compare them with.
        """
        self.falco, self.plugin, self.folder, self.docker = falco, plugin, folder, docker
        self.lineage = lineage
        self._rules = [*map(str, beside), str(rules), str(probe)]
        self.shown: list[str] = []
        self.alerts = folder / "alerts.jsonl"
        self.log = folder / "falco.log"
        self.metrics = folder / "metrics.jsonl"
        self._process: subprocess.Popen[bytes] | None = None

    def validate(self) -> list[str]:
        """What Falco says against the rules file: errors and warnings."""
        settings = self._write_settings("")
        run = subprocess.run([self.falco, "-c", settings, "-V", RULES], capture_output=True, text=True, check=False)
        report = run.stdout[run.stdout.find("{") :]
        if not report:
            raise EngineError(run.stderr or run.stdout)
        result = json.JSONDecoder().raw_decode(report)[0]["falco_load_results"][0]
        return [problem["message"] for problem in (*result["errors"], *result["warnings"])]

    def start(self, url: str) -> None:
        """Start it, and return when it watches."""
        settings = self._write_settings(url)
        with self.alerts.open("wb") as alerts, self.log.open("wb") as log:
            command: list[str | Path] = ["nice", "-n", NICE, self.falco, "-c", settings]
            self._process = subprocess.Popen(command, stdout=alerts, stderr=log)
        deadline = time.monotonic() + 180
        while self._process.poll() is None and time.monotonic() < deadline:
            if READY in self.log.read_text():  # seconds before the probe shows the first event
                subprocess.run(["/bin/true"], env={"CASE": FIRST_EVENT}, check=True)
            if FIRST_EVENT in self.alerts.read_text(errors="replace"):
                return
            time.sleep(0.2)
        raise EngineError(self.log.read_text()[-4000:])

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """Let it write what it has, and end."""
        if self._process is not None:
            self._wait_until_quiet()
            self._process.terminate()
            self._process.wait(timeout=20)

    def _wait_until_quiet(self) -> None:
        """Wait until nothing new was written for two seconds: on a machine under load it is behind."""
        size, quiet, deadline = -1, 0, time.monotonic() + 60
        while quiet < 4 and time.monotonic() < deadline:
            time.sleep(0.5)
            written = self.alerts.stat().st_size
            quiet = quiet + 1 if written == size else 0
            size = written

    def raised(self) -> Iterator[dict[str, Any]]:
        """The alerts that it wrote."""
        for line in self.alerts.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                yield json.loads(line)

    def counted(self, name: str) -> int:
        """The last value of a metric of Falco's own, as `scap.n_drops`; 0 if there is none."""
        lines = self.metrics.read_text(errors="replace").splitlines() if self.metrics.exists() else []
        values = (json.loads(line)["output_fields"].get(name) for line in reversed(lines) if line.endswith("}"))
        return int(next((value for value in values if value is not None), 0))

    def _engines(self) -> dict[str, Any]:
        engines = {name: {"enabled": False} for name in ("podman", "containerd", "cri", "lxc", "libvirt_lxc", "bpm")}
        docker = {"enabled": True, "sockets": [str(self.docker or "/nowhere/docker.sock")]}
        return {"engines": engines | {"docker": docker}}

    def _write_settings(self, url: str) -> Path:
        snippet = yaml.safe_load((SHIPPED / "config.d" / "falco-0.44.yaml").read_text())
        mine = [
            {"match": {"source": "syscall"}, "extra_fields": ["proc.env[CASE]", "evt.num", *self.shown]},
            {"match": {"rule": "PROBE"}, "extra_fields": [*PROBED, *ANCESTORS]},
        ]
        plugins: list[dict[str, Any]] = []
        if self.plugin.exists():
            plugins.append({"name": "container", "library_path": str(self.plugin), "init_config": self._engines()})
        if self.lineage:
            plugins.append({"name": "lineage", "library_path": str(self.lineage.resolve())})
            mine.append({"match": {"source": "syscall"}, "extra_fields": ["lineage.packed"]})
        settings = snippet | {
            "config_files": [],
            "watch_config_files": False,
            "rules_files": self._rules,
            "engine": {"kind": "modern_ebpf", "modern_ebpf": {"buf_size_preset": BUFFERS}},
            "append_output": [{"suggested_output": True}, *snippet["append_output"], *mine],
            "http_output": {"enabled": bool(url), "url": url or "http://127.0.0.1:1"},
            "stdout_output": {"enabled": True},
            "syslog_output": {"enabled": False},
            "webserver": {"enabled": False},
            "buffered_outputs": False,
            "log_stderr": True,
            "log_syslog": False,
            "metrics": {
                "enabled": True,
                "interval": "5s",  # by a signal: one in each second keeps the probe from being loaded on a busy machine
                "output_rule": False,
                "output_file": str(self.metrics),
                "kernel_event_counters_enabled": True,
            },
        }
        if plugins:
            settings |= {"load_plugins": [plugin["name"] for plugin in plugins], "plugins": plugins}
        path = self.folder / "falco.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path
