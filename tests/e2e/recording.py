"""The events of played scenarios as a real Falco showed them: kept by `make e2e RECORD=FILE`, run again without Falco.

A line is one event with the fields that had a value. The rules are evaluated again each time.
"""

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from e2e.engine import FIRST_EVENT
from falco.event import Event
from falco.ruleset import Ruleset

PLAYER = "e2e.player"
ANCESTOR = re.compile(r"proc\.a\w+\[(\d)\]")
PARENT = ("proc.pname", "proc.pexepath", "proc.pcmdline", "proc.ppid", "proc.ppid.ts", "proc.pvpid")
EVENTS = Path(__file__).parents[1] / "falco" / "data" / "played.jsonl.gz"


def save(path: Path, alerts: Iterable[Mapping[str, Any]]) -> None:
    """Keep the events that the probe showed, except those of the detection tables."""
    lines = [json.dumps(_kept(alert), separators=(",", ":")) for alert in alerts if _is_scenario(alert)]
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(("\n".join(lines) + "\n").encode())


def _is_scenario(alert: Mapping[str, Any]) -> bool:
    name = alert["output_fields"].get("proc.env[CASE]") or ""
    return alert["rule"] == "PROBE" and name != FIRST_EVENT and "-fires-" not in name and "-silent-" not in name


def _kept(alert: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in alert["output_fields"].items() if value not in (None, "")}
    fields = {name: value for name, value in fields.items() if not _is_of_the_player(name, fields)}
    fields.setdefault("proc.args", "")
    return {"time": alert["time"], "hostname": alert["hostname"], "output_fields": fields}


def _is_of_the_player(name: str, fields: Mapping[str, Any]) -> bool:
    """Whether a field tells of what stands above the scenario: the player, and the machine that it runs on."""
    first = next((n for n in range(1, 9) if PLAYER in fields.get(f"proc.acmdline[{n}]", "")), 9)
    found = ANCESTOR.fullmatch(name)
    return bool(found and int(found[1]) >= first) or (first == 1 and name in PARENT)


def events(path: Path = EVENTS) -> list[dict[str, Any]]:
    """The recorded events in the order in which they happened."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as file:
        return [json.loads(line) for line in file]


def alerts(recorded: Sequence[Mapping[str, Any]], ruleset: Ruleset) -> Iterator[dict[str, Any]]:
    """The alerts that Falco would raise for recorded events, as its JSON."""
    for event in recorded:
        for rule in ruleset.fired(Event(event["output_fields"])):
            item = ruleset.rules[rule]
            yield {
                "rule": rule,
                "priority": item["priority"].title(),
                "source": "syscall",
                "tags": item["tags"],
                "output": rule,
                **event,
            }
