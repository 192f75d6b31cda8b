"""A normal day, compressed: services that do their work, people and timers around them. Nothing of it may be told."""

import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from e2e.real import chores
from e2e.real.network import MIRROR
from e2e.real.places import Place, start_ssh_server
from e2e.real.runs import PHP_SERVICES, secret
from e2e.real.services import SERVICES, Running, place

JOBS = 12
"""Lines of the jobs file."""

Task = tuple[str, Callable[[], object]]


@dataclass
class Shift:
    """Everything that runs through a day, and the record of what was done."""

    seed: int = 1
    running: list[Running] = field(default_factory=list)
    station: Place | None = None
    done: Counter[str] = field(default_factory=Counter)
    diary: list[tuple[float, str]] = field(default_factory=list)

    def begin(self, services: Sequence[str]) -> None:
        """Start each service on the host and in a container, the timers, and the way in for administrators."""
        self.station = Place(chores.WORKSTATION)
        start_ssh_server(self.station)
        for at, name in enumerate(services):
            for where in ("host", ("known", "unknown")[at % 2]):
                kind = "host" if where == "host" else "container"
                running = Running(SERVICES[name], place(kind, f"work-{name}-{where}"))
                self.running.append(running)
                running.start()
        for name, service in chores.TIMERS.items():
            running = Running(service, place("container", f"work-{name}-known"), port=0)
            self.running.append(running)
            running.start()

    @staticmethod
    def names(services: Sequence[str]) -> Iterator[str]:
        """The names of all places of a shift."""
        for at, name in enumerate(services):
            yield from (f"work-{name}-host", f"work-{name}-{('known', 'unknown')[at % 2]}")
        yield from (f"work-{name}-known" for name in chores.TIMERS)
        yield chores.WORKSTATION

    def work(self, seconds: float, hands: int = 4) -> None:
        """Do tasks until the time is over."""
        tasks = [*self._tasks()]
        deadline = time.monotonic() + seconds

        def hand(number: int) -> None:
            dice = random.Random(self.seed * 100 + number)
            while time.monotonic() < deadline:
                name, do = dice.choice(tasks)
                self.diary.append((time.time(), name))
                try:
                    do()
                    self.done[name] += 1
                except (OSError, subprocess.SubprocessError) as problem:
                    self.done[f"{name}: {type(problem).__name__}"] += 1

        threads = [threading.Thread(target=hand, args=(number,)) for number in range(hands)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def end(self) -> None:
        """Close up."""
        if self.station:
            self.station.end()
        for running in self.running:
            running.end()
        self.station = None
        self.running.clear()

    def _tasks(self) -> Iterator[Task]:
        for running in self.running:
            name = running.place.name
            for task, do in _tasks_of(running):
                yield f"{name}: {task}", do
        yield from chores.on_a_workstation()


def _tasks_of(running: Running) -> Iterator[Task]:
    service = running.service
    page = service.page
    if service.is_web:
        yield from (("page", partial(running.ask, page)) for _ in range(3))
        yield from ((f"job {n}", partial(running.ask, page, do="job", n=str(n))) for n in range(JOBS))
        yield (
            "health check",
            lambda: running.place.enter(["sh", "-c", f"curl -fsS {running.url}{page} >/dev/null || exit 1"]),
        )
    if service.name in PHP_SERVICES:
        yield "mail()", lambda: running.ask(page, do="mail")
        yield "upload", lambda: running.ask(page, body=b"\xff\xd8 picture", do="upload", name="photo.jpg")
    yield from _administered(running)
    for task, words in chores.BY_SERVICE.get(service.name, {}).items():
        yield task, partial(running.place.enter, [*map(running.fill, words)])
    if service.name == "jupyter":
        for cell in ("print(6 * 7)", "!ls", "!pip --version", "import platform; platform.uname()"):
            words = [*chores.PYTHON, f"{running.folder}/ask.py", running.url, cell]
            yield (
                f"cell {cell}",
                lambda words=words: subprocess.run(  # type: ignore[misc]
                    words, capture_output=True, timeout=60, check=False
                ),
            )


def _administered(running: Running) -> Iterator[Task]:
    """What people type in `kubectl exec`, `docker exec` or over ssh."""
    hidden = secret("host" if running.place.kind == "host" else "container")
    for task, line in {
        "looks around": "id; ps aux | head -5; ls -la /; env | wc -l; cat /etc/hostname",
        "reads secrets": f"cat {hidden}; cat /etc/shadow | wc -l; base64 {hidden}",
        "asks the network": f"curl -s http://{MIRROR}/; curl -s -m 2 http://169.254.169.254/latest/meta-data/; true",
        "downloads a script": f"curl -s http://{MIRROR}/x.sh -o /tmp/deploy.sh; sh /tmp/deploy.sh; rm /tmp/deploy.sh",
        "leaves something running": "nohup sleep 2 >/dev/null 2>&1 & setsid sleep 1 & python3 -c 'import socket'; true",
        "debugs": "python3 -c 'import socket; socket.create_server((\"127.0.0.1\", 0))'; echo dGVzdA== | base64 -d; true",
    }.items():
        for terminal in (True, False):
            shell = ["bash", "-ic", line] if terminal else ["sh", "-c", line]
            how = "at a terminal" if terminal else "without one"
            yield (
                f"administrator {task} {how}",
                lambda shell=shell, terminal=terminal: running.place.enter(shell, terminal=terminal),  # type: ignore[misc]
            )


def diary_around(diary: Sequence[tuple[float, str]], when: float, name: str) -> list[str]:
    """What was begun in a place in the last seconds before a moment."""
    return [task for at, task in diary if when - 8 < at <= when + 1 and (not name or task.startswith(name))][-6:]
