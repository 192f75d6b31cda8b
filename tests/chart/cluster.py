"""As much of a node as one container needs: its volumes from the rendered objects, its command, its environment."""

import base64
import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chart.rendering import Object

BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Node:
    """A folder that stands for the file system of a container; `paths` says where its mounts are in truth."""

    def __init__(self, folder: Path, objects: list[Object], secrets: dict[str, dict[str, str]] | None = None) -> None:
        self._folder = folder
        self._objects = objects
        self._secrets = secrets or {}
        self.paths: dict[str, Path] = {}

    def mount(self, spec: Object, container: Object) -> None:
        """Lay the volumes of a container as kubelet does, but below the folder."""
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        self.paths = {mount["mountPath"]: self._folder / str(n) for n, mount in enumerate(container["volumeMounts"])}
        for mount in container["volumeMounts"]:
            inside, files = self.paths[mount["mountPath"]], self._files(volumes[mount["name"]])
            if "subPath" in mount:
                inside.write_text(files[mount["subPath"]])
            else:
                inside.mkdir()
                for name, content in files.items():
                    (inside / name).write_text(content)

    def _files(self, volume: Object) -> dict[str, str]:
        if "configMap" in volume:
            if volume["configMap"].get("optional") and not self._has("ConfigMap", volume["configMap"]["name"]):
                return {}
            return {key: self.moved(text) for key, text in self._data("ConfigMap", volume["configMap"]["name"]).items()}
        if "secret" in volume:
            name = volume["secret"]["secretName"]
            if name in self._secrets:
                return self._secrets[name]
            return {key: base64.b64decode(text).decode() for key, text in self._data("Secret", name).items()}
        assert volume.keys() & {"emptyDir", "hostPath", "persistentVolumeClaim"}, volume
        return {}

    def _has(self, kind: str, name: str) -> bool:
        return any((each["kind"], each["metadata"]["name"]) == (kind, name) for each in self._objects)

    def _data(self, kind: str, name: str) -> dict[str, str]:
        wanted = (kind, "falco", name)
        (found,) = (
            each
            for each in self._objects
            if (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) == wanted
        )
        data: dict[str, str] = found["data"]
        return data

    def moved(self, text: str) -> str:
        """The text with every path of a mount replaced by where it is in truth."""
        paths = sorted(self.paths, key=len, reverse=True)
        return re.sub(rf"(?<!\w)({'|'.join(map(re.escape, paths))})(?![\w.-])", lambda f: str(self.paths[f[1]]), text)

    @contextlib.contextmanager
    def running(self, container: Object) -> Iterator[subprocess.Popen[str]]:
        """Run the container's command as it is written, until the end of the block."""
        process = subprocess.Popen(
            self.command(container), env=self.environment(container), text=True, stderr=subprocess.PIPE
        )
        try:
            yield process
        finally:
            process.terminate()
            said = process.communicate(timeout=60)[1]
            sys.stderr.write(said)

    def command(self, container: Object) -> list[str]:
        return [self.moved(word) for word in (*container["command"], *container.get("args", []))]

    def environment(self, container: Object) -> dict[str, str]:
        given = {each["name"]: each.get("value", "from-the-node") for each in container.get("env", [])}
        return {"PATH": f"{BIN}:{os.environ['PATH']}", **{name: self.moved(value) for name, value in given.items()}}


def probe(container: Object, kind: str) -> int:
    """The status that kubelet would see; 0 while nothing answers."""
    asked: Any = container[f"{kind}Probe"]["httpGet"]
    (port,) = (each["containerPort"] for each in container["ports"] if each["name"] == asked["port"])
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{asked['path']}", timeout=5) as answer:
            return int(answer.status)
    except OSError:
        return 0


def wait_until_started(container: Object, process: "subprocess.Popen[str]") -> None:
    """As long as the startup probe would."""
    startup = container["startupProbe"]
    end = time.monotonic() + startup["periodSeconds"] * startup["failureThreshold"]
    while probe(container, "startup") != 200:
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < end, "the startup probe would have killed it"
        time.sleep(0.05)
