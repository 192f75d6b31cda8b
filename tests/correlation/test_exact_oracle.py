"""Random process trees with the Falco plugin's ancestry: nothing joins from outside, and nothing is missed.

Covers: `correlation.membership`, `correlation.placement`, `correlation.memory.lineage`.

As in `test_oracle`, but pids are reused as soon as they are free, attacks fork silently up to 16 deep, and any process
may die. `MACHINES=24000 pytest tests/correlation/test_exact_oracle.py` plays that many.
"""

import os
import random
from collections import Counter

import msgspec
import pytest
from conftest import fed
from correlation.test_oracle import BEGIN, RULES, SECOND, Machine, Proc, SentAlert, disturbed
from support.packed import Seen, packed

from sidecar.correlation.pipeline import Pipeline

MACHINES = int(os.environ.get("MACHINES", "300"))
BATCH = 100
STEPS = 40
DEEPEST = 16


class ExactMachine(Machine):
    """One container on a node whose Falco has the plugin since before everything but the services."""

    def fork(self, parent: Proc, name: str, *, session: bool = False) -> Proc:
        child = super().fork(parent, name, session=session)
        free = {dead.pid for dead in self.all if not dead.alive and dead.born + 2 * SECOND < self.now}
        free -= {other.pid for other in self.all if other.alive or other.born + 2 * SECOND >= self.now}
        if free and self.rng.random() < 0.7:
            child.pid = self.rng.choice(sorted(free))
        return child

    def alert(self, process: Proc, group: str) -> None:
        super().alert(process, group)
        above = [self.seen(each) for each in reversed(process.ancestors(true=True))]
        alerts = self.alerts.pop()
        body = msgspec.json.decode(alerts.body)
        body["output_fields"]["lineage.packed"] = packed(self.seen(process), above, sid=process.sid)
        self.alerts.append(alerts._replace(body=msgspec.json.encode(body)))

    def seen(self, process: Proc) -> Seen:
        return Seen(process.pid, process.born, f"/bin/{process.name}", known="f" if process.born >= BEGIN else "p")

    def step(self) -> None:
        if self.rng.random() < 0.3:
            self.something_else()
        super().step()

    def something_else(self) -> None:
        """Silent generations of the attack, the end of anything but a service, or a check by the first process."""
        choice = self.rng.randrange(3)
        mortal = [process for process in (*self.attack, *self.outside) if process.alive]
        deep = [process for process in self.attack if process.alive and len(process.ancestors(true=True)) < DEEPEST]
        if choice == 0 and deep:
            below = self.rng.choice(deep)
            for _ in range(self.rng.randrange(1, DEEPEST + 1 - len(below.ancestors(true=True)))):
                below = self.fork(below, "sh", session=self.rng.random() < 0.3)
                self.attack.append(below)
        elif choice == 1 and mortal:
            self.exits(self.rng.choice(mortal))
        elif choice == 2 and self.first is not self.service:
            check = self.fork(self.first, "sh", session=self.rng.random() < 0.5)
            child = self.fork(check, "curl")
            self.outside += [check, child]
            self.alert(child, self.rng.choice("NC"))
            self.exits(check)

    def attack_goes_on(self) -> None:
        shallow = [process for process in self.attack if len(process.ancestors(true=True)) < DEEPEST]
        self.attack, every = shallow, self.attack
        if shallow:
            super().attack_goes_on()
        self.attack = [*every, *self.attack[len(shallow) :]]


def arriving(seed: int) -> tuple[list[ExactMachine], list[SentAlert]]:
    rng = random.Random(seed)
    pair = [ExactMachine(rng, "aaaaaaaaaaaa", 1000), ExactMachine(rng, "bbbbbbbbbbbb", 5000)]
    for _ in range(STEPS):
        rng.choice(pair).step()
    alerts = disturbed([each for machine in pair for each in machine.alerts], rng, loss=rng.choice([0, 0, 0.3]))
    return pair, alerts if rng.random() < 0.5 else sorted(alerts, key=lambda each: each.time)


def judged(seed: int) -> Counter[str]:
    """How many detections joined, joined from outside, and were missed; and the depth of the deepest that joined."""
    pair, alerts = arriving(seed)
    pipeline = Pipeline(RULES, lambda: 0.0)
    fed(pipeline, [each.body for each in alerts])
    found: Counter[str] = Counter()
    for machine in pair:
        joined = {
            detection.cmdline
            for container in pipeline.containers
            if container.where.container == machine.container
            for context in container.contexts.values()
            for detection in context.timeline
        }
        attacked = any(each.group == "W" and each.process in machine.all for each in alerts)
        for each in alerts:
            if not each.group or each.process not in machine.all:
                continue
            is_joined = msgspec.json.decode(each.body)["output_fields"]["proc.cmdline"] in joined
            belongs = attacked and machine.service in each.process.ancestors(true=True)
            found[("missed", "joined")[is_joined] if belongs else ("silent", "outside")[is_joined]] += 1
            if is_joined:
                found["deepest"] = max(found["deepest"], len(each.process.ancestors(true=True)))
    return found


@pytest.mark.parametrize("batch", range(0, MACHINES, BATCH))
def test_with_the_plugin_nothing_joins_from_outside_and_nothing_is_missed(batch: int) -> None:
    found: Counter[str] = Counter()
    for seed in range(batch, min(batch + BATCH, MACHINES), 2):
        one = judged(seed)
        found["deepest"] = max(found["deepest"], one.pop("deepest", 0))
        found.update(one)
    print(dict(found))  # noqa: T201

    assert (found["outside"], found["missed"]) == (0, 0)
    assert found["joined"] > BATCH
