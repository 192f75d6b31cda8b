"""Plays without a live engine: the alerts that Falco would raise for a scenario with our rules, as its JSON.

Every process gets a pid, a start time, a session and a parent, as the kernel would give them; one that loses its parent
is adopted by the first process of its container, or of the host. The rules are evaluated by `falco.condition`.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from click import echo
from e2e import tree
from e2e.player import container_id
from falco.event import DEEPEST, EXEC, Event, of_deed, of_process
from falco.ruleset import RULES, Ruleset

HOST = "node-1"
START = 1_795_500_800
"""When a play begins, in seconds since 1970."""

FIRST_PID = 1000


@dataclass
class Living:
    """A pid and the program that it runs now."""

    pid: int
    vpid: int
    start: int
    session: int
    parent: "Living | None"
    process: tree.Process

    def ancestors(self) -> Iterator["Living"]:
        """Itself, its parent, and so on."""
        at: Living | None = self
        while at is not None:
            yield at
            at = at.parent


class Player:
    """Plays one scenario: `events` in order of time."""

    def __init__(self, scenario: tree.Scenario) -> None:
        self._scenario = scenario
        self._processes, _ = tree.grow(scenario)
        top = Living(1 if not scenario.container else 903, 0, (START - 3600) * 10**9, 1, None, self._processes[0])
        self._living = {0: top}
        self._first: Living | None = None if scenario.container else top
        self._inside = 0
        self.events: list[tuple[int, dict[str, Any]]] = []

    def play(self) -> list[tuple[int, dict[str, Any]]]:
        """Every event of the play with its time in nanoseconds."""
        deeds = sorted(
            ((slot, process.number, kind, what) for process in self._processes for slot, kind, what in process.deeds),
            key=lambda deed: deed[0],
        )
        for slot, number, kind, what in deeds:
            time = (START + slot) * 10**9
            if kind in ("child", "fork", "exec"):
                self._start(self._living[number], self._processes[what], kind, time)
            elif kind != "exit":
                self._add(time, self._living[number], of_deed(kind, what, container=self._scenario.container))
        return self.events

    def _start(self, parent: Living, process: tree.Process, how: str, time: int) -> None:
        began = time - 5_000_000
        if how == "exec":
            living = parent
            living.process = process
        else:
            pid = FIRST_PID + len(self._living)
            above = self._first if "detached" in process.marks else parent
            self._inside += bool(self._scenario.container)
            session = pid if process.marks & {"setsid", "detached", "enters", "terminal"} else parent.session
            living = Living(pid, self._inside or pid, began, session, above, process)
        self._living[process.number] = living
        if self._first is None and "enters" not in process.marks:
            self._first = living
        if how != "fork":
            self._add(time, living, EXEC)
        else:
            process.file, process.behind = parent.process.file, parent.process.behind
            process.options = {"name": parent.process.options.get("name", _name(parent.process)), **process.options}

    def _add(self, time: int, living: Living, deed: Mapping[str, Any]) -> None:
        line = [*living.ancestors()]
        fields = of_process([each.process for each in line], container=self._scenario.container)
        fields |= deed
        fields |= {
            "evt.time": time,
            "proc.pid": living.pid,
            "proc.pid.ts": living.start,
            "proc.vpid": living.vpid,
            "proc.sid": living.session,
            "user.name": "app",
            "user.uid": 1000,
            "user.loginuid": -1,
        }
        for above, each in enumerate(line[1:DEEPEST], 1):
            fields[f"proc.apid[{above}]"] = each.pid
        if len(line) > 1:
            fields |= {"proc.ppid": line[1].pid, "proc.ppid.ts": line[1].start, "proc.pvpid": line[1].vpid}
        if self._scenario.container:
            fields |= _place(self._scenario)
        self.events.append((time, fields))


def _name(process: tree.Process) -> str:
    return process.file.rpartition("/")[2]


def _place(scenario: tree.Scenario) -> dict[str, Any]:
    return {
        "container.id": container_id(scenario.name),
        "container.name": "app",
        "container.image.repository": "registry.example/app",
        "k8s.ns.name": "shop",
        "k8s.pod.name": scenario.name.replace("_", "-"),
    }


def alerts(scenario: tree.Scenario, ruleset: Ruleset) -> list[dict[str, Any]]:
    """The alerts of a scenario; first of them, if it is `watched`, what shows that our rules were there before it."""
    shown = [
        _alert(rule, ruleset, time, fields)
        for time, fields in Player(scenario).play()
        for rule in _fired(ruleset, fields)
    ]
    return [*([_sign_of_watching(ruleset)] if scenario.watched else []), *shown]


def _fired(ruleset: Ruleset, fields: Mapping[str, Any]) -> list[str]:
    return ruleset.fired(Event(fields))


def _sign_of_watching(ruleset: Ruleset) -> dict[str, Any]:
    """What the canary of the service causes: our marker rule sees it listen."""
    play = [["falco-correlator run", "python3 -c falco-correlator-canary-1", "listens 127.0.0.1:40001"]]
    time, fields = Player(tree.Scenario("canary", True, None, None, frozenset(), play)).play()[-1]
    return _alert("Program listens on a port", ruleset, time - 600 * 10**9, fields)


def _alert(rule: str, ruleset: Ruleset, time: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    item = ruleset.rules[rule]
    return {
        "hostname": HOST,
        "output": rule,
        "output_fields": {name: value for name, value in fields.items() if name != "evt.num"},
        "priority": item["priority"].title(),
        "rule": rule,
        "source": "syscall",
        "tags": item["tags"],
        "time": datetime.fromtimestamp(time // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time % 10**9:09}Z",
    }


def main() -> None:
    """Print the alerts of the scenarios in the files named: `python -m falco.playing FILE...`."""
    ruleset = Ruleset(RULES)
    for path in sys.argv[1:]:
        for scenario in tree.load(Path(path)):
            for alert in alerts(scenario, ruleset):
                echo(json.dumps(alert))


if __name__ == "__main__":
    main()
