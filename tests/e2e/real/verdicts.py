"""Who an alert or a notification belongs to, whether it is right, and the tables."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from e2e.judge import SEVERITIES, Note, named_pids
from e2e.real.places import container_id

OF_RUN = re.compile(r"cpuacct=/falco-correlator-e2e/([0-9a-f]{6})-")
ELSEWHERE = "elsewhere"
"""Not of anything that we started: other work on this machine."""


def moment(sent: Mapping[str, Any]) -> float:
    """The time of a notification (ns)."""
    return datetime.fromisoformat(f"{sent.get('time', '1970-01-01T00:00:00')[:19]}+00:00").timestamp() * 1e9


@dataclass
class Owners:
    """Finds the run that an alert or notification is of: by container, on a host by the cgroup of its processes."""

    runs: Sequence[str]
    pids: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    """Whose a pid was, and when (ns): pids come back within an hour."""

    incidents: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._containers = {container_id(name)[:12]: name for name in self.runs}
        self._tags = {container_id(name)[:6]: name for name in self.runs}

    def of_alert(self, alert: Mapping[str, Any]) -> str:
        """The run of an alert; its process is remembered."""
        fields = alert.get("output_fields") or {}
        found = OF_RUN.search(str(fields.get("thread.cgroups") or ""))
        run = self._containers.get(str(fields.get("container.id")), "") or (
            self._tags.get(found[1], "") if found else ""
        )
        if run:
            for pid in (fields.get("proc.pid"), fields.get("proc.ppid")):
                self.pids.setdefault(str(pid), []).append((float(fields.get("evt.time.iso8601") or 0), run))
        return run or ELSEWHERE

    def of_note(self, sent: Mapping[str, Any]) -> str:
        """The run of a notification."""
        fields = sent["output_fields"]
        when = moment(sent)
        known = [self.pids[pid] for pid in named_pids(fields) if pid in self.pids]
        named = (min(holders, key=lambda holder: abs(holder[0] - when))[1] for holders in known)
        on_host = next(named, self.incidents.get(fields["incident.id"], ELSEWHERE))
        self.incidents.setdefault(fields["incident.id"], on_host)
        return self._containers.get(str(fields.get("container.id")), on_host)


Notes = Mapping[str, Sequence[tuple[Note, Mapping[str, Any]]]]
"""The notifications of each run: what matters of each, and its fields."""


def notes_by_run(sent: Iterable[Mapping[str, Any]], owners: Owners) -> Notes:
    """The notifications of each run, in order."""
    notes: dict[str, list[tuple[Note, Mapping[str, Any]]]] = defaultdict(list)
    for event in sent:
        fields = event["output_fields"]
        if "incident.id" in fields:
            note = Note(fields["incident.severity"].lower(), event["rule"], fields["incident.id"])
            notes[owners.of_note(event)].append((note, {"evt.time": moment(event), **fields}))
    return notes


def outcome(notes: Sequence[Note]) -> str:
    """The worst case told; with the number of incidents where there were several."""
    worst = max(notes, key=lambda note: SEVERITIES.index(note.severity), default=None)
    incidents = len({note.incident for note in notes})
    name = worst.case if worst else "silence"
    return name if incidents < 2 else f"{name} in {incidents} incidents"


def per_hour(rules: Counter[str], seconds: float) -> Iterator[str]:
    """Lines of a table: alerts an hour by rule, most first."""
    for rule, count in rules.most_common():
        yield f"  {count * 3600 / max(seconds, 1):10.0f}  {rule}"
