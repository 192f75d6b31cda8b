"""The detection tables: what each rule must fire on and what it must leave alone."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from e2e import tree
from falco.event import Event, from_chain
from support import fast_yaml

TABLES = Path(__file__).with_name("detections.yaml")

MADE_UP = re.compile(r"\[[^\]]*(upper|lower|neither|dev=|exe=memfd:)[^\]]*\]")


@dataclass(frozen=True)
class Case:
    """One chain of processes under one rule."""

    name: str
    rule: str
    fires: bool
    container: bool
    chain: tuple[str, ...]
    extra: tuple[tuple[str, Any], ...]

    @property
    def is_playable(self) -> bool:
        """Whether a live engine can show the same: it has no fields of its own, and no layers and inodes of files."""
        return not self.extra and not MADE_UP.search(" ".join(self.chain))

    def event(self) -> Event:
        """The event that the chain ends in."""
        return Event(from_chain(list(self.chain), container=self.container).fields | dict(self.extra))

    def scenario(self) -> tree.Scenario:
        """The same as a play, for a live engine."""
        return tree.Scenario(self.name, self.container, None, None, frozenset(), [list(self.chain)], "detection")


@dataclass(frozen=True)
class Detection:
    """One entry of the tables."""

    number: int
    rule: str
    sees: str
    ignores: str
    false_positives: str
    cases: tuple[Case, ...]

    def chains(self, *, fires: bool) -> list[Case]:
        """The positives, or the look-alikes."""
        return [case for case in self.cases if case.fires == fires]


@cache
def detections(path: Path = TABLES) -> list[Detection]:
    """All detections of a table, in the order of the design."""
    return [_detection(entry) for entry in fast_yaml.load(path.read_text())]


def cases() -> list[Case]:
    """The cases of all detections."""
    return [case for detection in detections() for case in detection.cases]


def _detection(entry: dict[str, Any]) -> Detection:
    columns = (entry["id"], entry["rule"], entry["sees"], entry["ignores"], entry["false_positives"])
    return Detection(*columns, tuple(_cases(entry)))


def _cases(entry: dict[str, Any]) -> Iterator[Case]:
    for word in ("fires", "silent"):
        for index, written in enumerate(entry[word], 1):
            case: dict[str, Any] = {"container": written} if isinstance(written, list) else written
            place = "container" if "container" in case else "host"
            extra = tuple(case.get("with", {}).items())
            name = f"d{entry['id']:02}-{word}-{index:02}"
            yield Case(name, entry["rule"], word == "fires", place == "container", tuple(case[place]), extra)
