"""Random process trees against an oracle that knows the true one.

A small container is simulated: first process, services with workers, cron, an administrator who enters, shells,
children, orphans, daemons. Falco sees each exec with the parents of that moment; alerts are lost, doubled and late. The
oracle knows who really descends from which service.
"""

import random
from typing import Any, NamedTuple

import msgspec
from conftest import fed
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents.falco_event import rfc3339
from sidecar.model import RANK
from sidecar.rules.loading import SHIPPED, load

RULES = load([SHIPPED / "correlation"])
BEGIN = 1_795_489_388_000_000_000
SECOND = 1_000_000_000
TAGS = {
    "W": "webrce_web_shell",
    "S": "webrce_shell_technique",
    "N": "webrce_network",
    "C": "webrce_credential",
    "": "webrce_lineage",
}


class Proc:
    """A process of the simulation; `true_parent` never changes, `parent` does when that one exits."""

    def __init__(self, pid: int, name: str, parent: "Proc | None", sid: int, born: int) -> None:
        self.pid, self.name, self.sid, self.born = pid, name, sid, born
        self.parent = self.true_parent = parent
        self.alive = True

    def ancestors(self, *, true: bool) -> "list[Proc]":
        found, process = [], self
        while (above := process.true_parent if true else process.parent) is not None:
            found.append(above)
            process = above
        return found


class SentAlert(NamedTuple):
    """An alert, and the truth about it."""

    body: bytes
    process: Proc
    group: str
    time: int
    visible: list[int]


class Machine:
    """One container."""

    def __init__(self, rng: random.Random, container: str, base: int) -> None:
        self.rng, self.container, self.base = rng, container, base
        self.now = BEGIN
        self.alerts: list[SentAlert] = []
        self.shim = Proc(base, "containerd-shim", None, base, BEGIN - 9999 * SECOND)
        self.all: list[Proc] = []
        first = rng.choice(["tini", "dumb-init", "php-fpm", "apache2", "supervisord"])
        self.first = self.fork(self.shim, first)
        service = (
            self.first if first in ("php-fpm", "apache2") else self.fork(self.first, rng.choice(["php-fpm", "nginx"]))
        )
        self.service = service
        self.workers = [self.fork(service, service.name) for _ in range(3)]
        self.cron = self.fork(self.first, "cron") if first == "supervisord" else None
        for process in self.all:
            process.born = BEGIN - 3600 * SECOND
        self.attack: list[Proc] = []
        self.outside: list[Proc] = []

    def fork(self, parent: Proc, name: str, *, session: bool = False) -> Proc:
        pid = self.base + 1 + len(self.all)
        child = Proc(pid, name, parent, pid if session else parent.sid, self.now)
        self.all.append(child)
        return child

    def exits(self, process: Proc) -> None:
        """The children of a process that ends hang on the first process from now on."""
        process.alive = False
        for other in self.all:
            if other.parent is process and other.alive:
                other.parent = self.first

    def alert(self, process: Proc, group: str) -> None:
        chain = [process, *process.ancestors(true=False)][:7]
        fields: dict[str, Any] = {
            "container.id": self.container,
            "evt.type": "execve",
            "proc.name": process.name,
            "proc.cmdline": f"{process.name} {len(self.alerts)}",
            "proc.pid": process.pid,
            "proc.pid.ts": process.born,
            "proc.vpid": self.inner(process),
            "proc.sid": process.sid,
            "proc.tty": 0,
        }
        if len(chain) > 1:
            fields |= {"proc.ppid": chain[1].pid, "proc.ppid.ts": chain[1].born, "proc.pvpid": self.inner(chain[1])}
        for step, above in enumerate(chain[1:], 1):
            fields[f"proc.aname[{step}]"] = above.name
            if step > 1:
                fields[f"proc.apid[{step}]"] = above.pid
        body = {
            "hostname": "node-1",
            "priority": "Notice",
            "rule": f"{group or 'lineage'} by tag",
            "tags": [TAGS[group]],
            "time": rfc3339(self.now),
            "output_fields": fields,
        }
        self.alerts.append(SentAlert(msgspec.json.encode(body), process, group, self.now, [p.pid for p in chain]))

    def inner(self, process: Proc) -> int:
        return 1 if process is self.first else process.pid if process is self.shim else process.pid - self.base + 1

    def step(self) -> None:
        self.now += self.rng.randrange(1, 20) * SECOND // 4
        choice = self.rng.randrange(10)
        if choice < 3:
            shell = self.fork(self.rng.choice(self.workers), "sh")
            self.attack.append(shell)
            self.alert(shell, "W")
        elif choice < 6 and self.attack:
            self.attack_goes_on()
        elif choice == 6 and self.attack:
            self.exits(self.rng.choice(self.attack))
        elif choice == 7:
            bash = self.fork(self.shim, "bash", session=True)
            child = self.fork(bash, "curl")
            self.outside += [bash, child]
            self.alert(child, self.rng.choice("NC"))
        elif choice == 8 and self.cron:
            job = self.fork(self.cron, "sh", session=True)
            child = self.fork(job, "curl")
            self.outside += [job, child]
            self.alert(child, self.rng.choice("NC"))
        elif self.outside:
            self.alert(self.rng.choice(self.outside), self.rng.choice("SNC"))

    def attack_goes_on(self) -> None:
        parent = self.rng.choice([p for p in self.attack if p.alive] or self.attack)
        session = self.rng.random() < 0.3
        child = self.fork(
            parent if parent.alive else self.first, self.rng.choice(["python3", "curl", "cat"]), session=session
        )
        child.true_parent = parent
        self.attack.append(child)
        if session:
            self.alert(child, "")
        self.alert(child, self.rng.choice("SNC"))


def machines(seed: int, steps: int) -> tuple[Machine, Machine]:
    rng = random.Random(seed)
    pair = Machine(rng, "aaaaaaaaaaaa", 1000), Machine(rng, "bbbbbbbbbbbb", 5000)
    for _ in range(steps):
        rng.choice(pair).step()
    return pair


def disturbed(alerts: list[SentAlert], rng: random.Random, *, loss: float) -> list[SentAlert]:
    """The alerts as they arrive: some lost, some twice, each up to 30 seconds late."""
    kept = [alert for alert in alerts if rng.random() >= loss]
    kept += [alert for alert in kept if rng.random() < 0.2]
    late = {id(alert): alert.time + rng.randrange(30 * SECOND) for alert in kept}
    return sorted(kept, key=lambda alert: late[id(alert)])


def joined(pipeline: Pipeline) -> dict[str, set[int]]:
    """The pids of all detections in contexts, by container."""
    return {
        container.where.container: {
            detection.path[0][0] for context in container.contexts.values() for detection in context.timeline
        }
        for container in pipeline.containers
    }


seeds = st.integers(0, 2**32)


@given(seeds, st.integers(1, 40), st.floats(0, 0.5))
def test_containers_are_never_joined_and_nobody_from_outside_ever_joins(seed: int, steps: int, loss: float) -> None:
    pair = machines(seed, steps)
    rng = random.Random(seed)
    pipeline = Pipeline(RULES, lambda: 0.0)
    fed(pipeline, [alert.body for alert in disturbed(pair[0].alerts + pair[1].alerts, rng, loss=loss)])
    pids = joined(pipeline)

    for machine in pair:
        mine = pids.get(machine.container, set())
        assert mine <= {process.pid for process in machine.all}
        assert not mine & {process.pid for process in machine.outside}


@given(seeds, st.integers(1, 40), st.floats(0, 0.5))
def test_a_descendant_whose_ancestry_was_visible_once_is_never_missed(seed: int, steps: int, loss: float) -> None:
    pair = machines(seed, steps)
    rng = random.Random(seed)
    arriving = disturbed(pair[0].alerts + pair[1].alerts, rng, loss=loss)
    pipeline = Pipeline(RULES, lambda: 0.0)
    fed(pipeline, [alert.body for alert in arriving])
    pids = joined(pipeline)

    for machine in pair:
        mine = [alert for alert in arriving if alert.process in machine.all]
        shells = any(alert.group == "W" for alert in mine)
        for alert in mine:
            if alert.group and shells and _visibly_below(alert, mine, machine.service):
                assert alert.process.pid in pids[machine.container]


def _visibly_below(alert: SentAlert, alerts: list[SentAlert], service: Proc) -> bool:
    """Whether the links that alerts showed lead from the process up to the service."""
    parents: dict[int, set[int]] = {}
    for other in alerts:
        for below, above in zip(other.visible, other.visible[1:], strict=False):
            parents.setdefault(below, set()).add(above)
    reached, todo = set(), [alert.process.pid]
    while todo:
        pid = todo.pop()
        if pid not in reached:
            reached.add(pid)
            todo += parents.get(pid, ())
    truly_below = service in alert.process.ancestors(true=True)
    return truly_below and service.pid in reached


@given(seeds, st.integers(1, 40))
@example(857479260, 5)  # a cron below the first process did the same before
def test_the_final_case_does_not_depend_on_lateness(seed: int, steps: int) -> None:
    pair = machines(seed, steps)
    rng = random.Random(seed)
    alerts = pair[0].alerts + pair[1].alerts
    in_order = sorted(alerts, key=lambda alert: alert.time)

    assert _finals(in_order) == _finals(disturbed(alerts, rng, loss=0))


def _finals(alerts: list[SentAlert]) -> dict[str, int]:
    strongest: dict[str, int] = {}
    for note in fed(Pipeline(RULES, lambda: 0.0), [alert.body for alert in alerts]):
        strongest[note.where.container] = max(strongest.get(note.where.container, 0), RANK[note.severity])
    return strongest
