"""Runs the tests inside expectation files: a product's own work must be silent, and attacks on it must not be.

A story of a product's own work that raises no incident without the entries either would prove nothing, so it fails.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.expectations import loading
from sidecar.expectations.entries import Entry, Expectations
from sidecar.expectations.spec import ExpectationFile, PlaceSpec, StepSpec, Story
from sidecar.model import Notification
from sidecar.rules.loading import yaml_files
from sidecar.rules.rule import CorrelationRule
from sidecar.rules.spec import AlertSpec

FILES = {"sh": "/usr/bin/dash", "python3": "/usr/bin/python3.11"}
"""Resolved files of programs that are links."""


class Result(NamedTuple):
    """One story of a file, and why it failed, "" if it passed."""

    product: str
    story: str
    why: str

    def __str__(self) -> str:
        line = f"{'FAILED' if self.why else 'ok    '} {self.product}: {self.story}"
        return f"{line}\n       why:      {self.why}" if self.why else line


def run(paths: Iterable[Path], rules: Sequence[CorrelationRule]) -> Iterator[Result]:
    """Run every story of these files. Raises ConfigError if a file has mistakes."""
    for path in yaml_files(paths):
        written = loading.read(path)
        entries = loading.compiled(written, str(path))
        used = set[str]()
        for story in written.silent:
            yield Result(written.product, story.name, _not_silent(written, story, entries, rules, used))
        for story in written.attacks:
            told, _ = _played(written, story, entries, rules)
            yield Result(written.product, story.name, "" if told else "no incident came of this attack")
        unused = ", ".join(sorted({entry.id for entry in entries} - used))
        yield Result(written.product, "each entry is used", f"no silent story uses {unused}" if unused else "")


def _not_silent(
    written: ExpectationFile, story: Story, entries: list[Entry], rules: Sequence[CorrelationRule], used: set[str]
) -> str:
    told, matched = _played(written, story, entries, rules)
    used.update(matched)
    if told:
        note = told[-1]
        unexpected = [each.cmdline for each, groups in note.timeline if groups]
        return f"{note.severity} {note.case!r}; unexpected: {'; '.join(unexpected)}"
    return "" if _played(written, story, [], rules)[0] else "raises no incident without the entries either"


def _played(
    written: ExpectationFile, story: Story, entries: list[Entry], rules: Sequence[CorrelationRule]
) -> tuple[list[Notification], set[str]]:
    pipeline = Pipeline(rules, timer=lambda: 0.0, expectations=Expectations(entries))
    specs = [_as_alert(step, written.place) for step in story.alerts]
    rule = next((each for each in rules if _has_groups(each, specs)), rules[0])
    messages = [message for body in alerts(rule, specs) for message in pipeline.process_json(body)[1]]
    messages += pipeline.flush()
    return [each for each in messages if isinstance(each, Notification)], set(pipeline.expected)


def _has_groups(rule: CorrelationRule, specs: Iterable[AlertSpec]) -> bool:
    return all(group in rule.groups for spec in specs for group in spec.detect)


def _as_alert(step: StepSpec, place: PlaceSpec) -> StepSpec:
    """A step with the fields of Falco that its short form stands for."""
    fields: dict[str, str | int] = {}
    image = step.image or _example(place.images)
    if image:
        fields["container.image.repository"] = image
    for key, globs in (
        ("container.name", place.containers),
        ("k8s.ns.name", place.namespaces),
        ("k8s.pod.name", place.pods),
    ):
        if globs:
            fields[key] = _example(globs)
    if step.command:
        program, _, arguments = step.command.partition(" ")
        name = step.process.rpartition(">")[2].strip().partition("#")[0].partition("=")[0]
        fields["proc.cmdline"] = f"{name} {arguments}".rstrip()
        fields["proc.exepath"] = step.exe or (program if "/" in program else FILES.get(program, f"/usr/bin/{program}"))
    if step.opens:
        fields |= {"evt.type": "openat", "fd.name": step.opens}
    if step.connects:
        address, _, port = step.connects.rpartition(":")
        fields |= {"evt.type": "connect", "fd.sip": address, "fd.sport": int(port)}
    return replace(step, fields={**fields, **step.fields})


def _example(globs: Sequence[str]) -> str:
    """A text that the first pattern describes."""
    return globs[0].replace("*/", "registry.example/", 1).replace("*", "x") if globs else ""
