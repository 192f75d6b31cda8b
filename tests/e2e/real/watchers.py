"""Several Falcos that watch the same events: with our plugin and without, with our rules and with others."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from e2e.__main__ import sidecar
from e2e.engine import Engine

HERE = Path(__file__).parent
SHOWN = ["thread.cgroups", "evt.time.iso8601"]


class Watcher:
    """A Falco with its own sidecar, or alone where only its alerts are counted."""

    def __init__(
        self,
        label: str,
        falco: Path,
        plugin: Path,
        folder: Path,
        rules: Path,
        lineage: Path | None = None,
        *,
        correlates: bool = True,
    ) -> None:
        """`folder` has the socket of the stand-in for Docker; the watcher makes its own folder in it."""
        self.label, self.correlates = label, correlates
        self.folder = folder / label.replace(" ", "-")
        self.folder.mkdir()
        probe, docker = HERE / "probe.yaml", folder / "docker.sock"
        self.engine = Engine(falco, plugin, self.folder, docker=docker, lineage=lineage, rules=rules, probe=probe)
        self.engine.shown = SHOWN

    @contextmanager
    def started(self) -> Iterator[None]:
        """Watch; what was seen stays in the folder."""
        with ExitStack() as stack:
            url = stack.enter_context(sidecar(self.folder)) if self.correlates else ""
            try:
                self.engine.start(url)
                yield
            finally:
                self.engine.stop()
                time.sleep(1)

    def sent(self) -> list[Mapping[str, Any]]:
        """What its sidecar told, in order."""
        path = self.folder / "notifications.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def lost(self) -> int:
        """System calls that Falco says it lost: what it does not see, nobody can judge."""
        return self.engine.counted("scap.n_drops")


class Errand:
    """A command that begins when it is told to, below nothing but init.

    Falco sees it start, and so knows that it serves nothing. Of a Python program that is older than Falco nobody knows
    that: what it starts would be the doing of a service, in doubt.
    """

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        """Wait in `folder`, which must be there as long; before Falco is started."""
        self._go, self._done = folder / "go", folder / "done"
        os.mkfifo(self._go)
        line = 'go=$1 done=$2; shift 2; cat "$go"; "$@"; echo $? >"$done"'
        command = ["setsid", "--fork", "sh", "-c", line, "sh", str(self._go), str(self._done), *words]
        subprocess.run(command, check=True)

    def run(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Let it begin, and wait for its end."""
        self._go.write_text("")
        while not self._done.exists():
            meanwhile()
            time.sleep(0.2)
        if (code := self._done.read_text().strip()) not in ("", "0"):
            raise SystemExit(f"what plays failed: {code}")


@contextmanager
def watching(watchers: Sequence[Watcher]) -> Iterator[None]:
    """All of them at once."""
    with ExitStack() as stack:
        for watcher in watchers:
            stack.enter_context(watcher.started())
        yield
