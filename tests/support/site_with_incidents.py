"""A service with the incidents of every recorded scenario, and one that an attacker wrote all over: for the browser."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import DATA, Running, fed
from msgspec.structs import replace
from support.injections import INJECTIONS
from support.rules import RULES, WEB_RCE

from sidecar.cli.demo import recording
from sidecar.cli.testing.stories import BEGIN, alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.model import Alert, Fields, Notification
from sidecar.packed_alert import pack
from sidecar.rules.rule import CorrelationRule
from sidecar.rules.spec import RuleTest
from sidecar.settings.schema import Settings
from sidecar.yamlfile.typed import build, read_yaml

DEMO, HOSTILE, LONG = "5dba8682cbae9420", "e" * 16, "f" * 16


def stories(rule: CorrelationRule) -> Iterator[tuple[str, list[bytes]]]:
    """Name and alerts of each scenario."""
    yield "demo", recording(BEGIN)
    yield "stock alerts", (DATA / "stock_alerts.jsonl").read_bytes().splitlines()
    written = read_yaml(Path(__file__).parents[1] / "stories" / "context.yaml")
    for story in (*rule.written.tests, *(build(RuleTest, plain, "story") for plain in written)):
        yield story.name, list(alerts(rule, story.alerts))


def notifications() -> Iterator[Notification]:
    """The steps of the incidents of every scenario, each under an id of its own."""
    for number, (name, bodies) in enumerate(stories(WEB_RCE)):
        for note in fed(Pipeline(RULES, lambda: 0.0), bodies):
            unique = DEMO if name == "demo" else f"{number:04x}{note.incident[:12]}"
            yield replace(note, incident=unique)
            if name == "demo" and note.severity == "critical":
                yield hostile(replace(note, incident=HOSTILE))
                yield crowded(replace(note, incident=LONG))


def hostile(note: Notification) -> Notification:
    """The incident as an attacker would like it: his text wherever text of his can come to."""
    (first, groups), *_ = note.timeline
    timeline = tuple(
        (
            replace(
                first,
                time=first.time + n,
                rule=text,
                cmdline=text,
                detail=text,
                path=((n, text), (1, "php")),
                packed=pack(Alert(first.time + n, text, text, (text,), Fields(pid=n, cmdline=text, user=text))),
            ),
            groups,
        )
        for n, text in enumerate(INJECTIONS, 2)
    )
    script = '"><img src=x onerror=alert(1)>'
    where = note.where._replace(host=script, namespace=script, pod=script, container_name=script, image=script)
    return replace(
        note,
        where=where,
        timeline=timeline,
        summary=script,
        tags=(script,),
        triage=((script, script),),
        incomplete=True,
    )


def crowded(note: Notification) -> Notification:
    """An incident with long words, a deep tree and many moments."""
    (first, groups), *_ = note.timeline
    path = tuple((n, f"process-{n}-" + "x" * 15) for n in range(7, 0, -1))
    long = replace(first, path=path, cmdline="x" * 500, detail="/very" * 60)
    timeline = tuple((replace(long, time=first.time + n * 10**9), groups) for n in range(60))
    return replace(note, timeline=timeline, where=note.where._replace(pod="p" * 63, namespace="n" * 63))


@contextmanager
def running(notes: Iterable[Notification] | None = None, **admin: Any) -> Iterator[Running]:
    """The service with these incidents, or those of every scenario, and its pages on a free port."""
    plain = {"admin": {"port": 0, **admin}, "http": {"port": 0}, "sinks": {"file": {"path": "/dev/null"}}}
    service = Running(build(Settings, plain, "site"), RULES)
    try:
        asyncio.run_coroutine_threadsafe(_fill(service, notes or notifications()), service._loop).result(20)
        yield service
    finally:
        service.close()


async def _fill(service: Running, notes: Iterable[Notification]) -> None:
    for note in notes:
        service.service.outbox.archive.put(note, step=True)
