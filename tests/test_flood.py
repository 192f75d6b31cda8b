"""Whoever floods from one container harms nobody else: not their evidence, not the memory, not the time."""

import gc
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cachetools import TTLCache
from conftest import fed, spec

from sidecar.containers import QUIET
from sidecar.model import Report
from sidecar.pipeline import Pipeline
from sidecar.rules import CorrelationRule
from sidecar.story import BEGIN, alerts

BENCH = Path(__file__).parent.parent / "bench"
SHELL = "tini > nginx > sh"


def flood(number: int, container: str = "loud0000c0de") -> bytes:
    """A web shell under a service root of its own, in a session of its own."""
    pid = 10_000 + number * 3
    fields = {
        "container.id": container,
        "evt.type": "execve",
        "proc.name": "sh",
        "proc.cmdline": f"sh -c {number}",
        "proc.pid": pid,
        "proc.ppid": pid + 1,
        "proc.aname[1]": "nginx",
        "proc.apid[2]": pid + 2,
        "proc.aname[2]": "tini",
        "proc.sid": number + 2,
    }
    seconds, nanoseconds = divmod(BEGIN + number * 1000, 10**9)
    return json.dumps(
        {
            "hostname": "node-1",
            "priority": "Notice",
            "rule": "web_shell by tag",
            "tags": ["webrce_web_shell"],
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{nanoseconds:09d}Z",
            "output_fields": fields,
        }
    ).encode()


def victim(rule: CorrelationRule) -> list[bytes]:
    return list(
        alerts(
            rule,
            [
                spec(SHELL, "web_shell"),
                spec(f"{SHELL} > curl", "network", at="1s"),
                spec(f"{SHELL} > cat", "credential", at="60s"),
            ],
        )
    )


@pytest.mark.slow
def test_100_000_detections_from_one_container_leave_the_victim_its_evidence_and_the_memory_small() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH / "flood.py"), "--detections", "100000"], capture_output=True, text=True, check=False
    )

    assert "1 passed, 0 failed" in done.stdout, done.stdout + done.stderr


def test_the_same_flood_against_one_plain_cache_loses_the_victim() -> None:
    sessions: TTLCache[tuple[str, int], str] = TTLCache(10_000, 3600)
    sessions["victim", 1] = "web shell"
    for number in range(100_000):
        sessions["loud", number] = "web shell"

    assert ("victim", 1) not in sessions


def test_pressure_is_reported_once(pipeline: Pipeline) -> None:
    reports = [m for number in range(400) for m in pipeline.feed_json(flood(number))[1] if isinstance(m, Report)]

    assert [report.case for report in reports] == ["Correlator under pressure"]
    assert "205 contexts in one container, 80% of the quota" in reports[0].text


@pytest.mark.slow
def test_all_containers_together_stay_within_their_budgets(pipeline: Pipeline) -> None:
    for number in range(60_000):
        pipeline.feed_json(flood(number, f"{number % 400:012x}"))
    budgets = pipeline.containers.budgets

    assert sum(len(container.contexts) for container in pipeline.containers) <= budgets["contexts"].room
    assert sum(len(container.lineage) for container in pipeline.containers) <= budgets["processes"].room
    assert budgets["contexts"].shrunk > 0


@pytest.mark.slow
def test_budgets_count_exactly_what_the_containers_hold(pipeline: Pipeline) -> None:
    for number in range(30_000):
        pipeline.feed_json(flood(number, f"{number % 11_000:012x}").replace(b"web_shell", b"network"))

    used = {name: budget.used for name, budget in pipeline.containers.budgets.items()}
    assert used == {
        "contexts": 0,
        "processes": sum(len(container.lineage) for container in pipeline.containers),
        "waiting": sum(len(container.waiting) for container in pipeline.containers),
        "detections": 0,
    }


def test_forgotten_containers_leave_nothing_for_the_garbage_collector(rule: CorrelationRule) -> None:
    now = [0.0]
    pipeline = Pipeline([rule], lambda: now[0])
    gc.collect()
    gc.disable()
    try:
        for number in range(600):
            now[0] += 20
            pipeline.feed_json(flood(number, f"{number // 2:012x}"))
        assert len(pipeline.containers) < 200
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_waiting_detections_are_bounded_by_kind(pipeline: Pipeline) -> None:
    for number in range(1000):
        pipeline.feed_json(flood(number).replace(b"web_shell", b"network"))
    (container,) = pipeline.containers

    assert len(container.waiting) == 64


def test_1000_pairs_of_benign_containers_are_never_joined(pipeline: Pipeline, rule: CorrelationRule) -> None:
    story = []
    for number in range(1000):
        mailing, talking = f"mail-{number}", f"talk-{number}"
        story += [
            spec("tini > php-fpm > sh", "web_shell", at=f"{number}ms", container=mailing),
            spec("tini > agent > curl", "network", at=f"{number}ms", container=talking),
            spec("tini > cat", "credential", at=f"{number}ms", container=talking, fields={"proc.sid": 9}),
        ]

    assert fed(pipeline, alerts(rule, story)) == []


def test_new_containers_push_out_only_such_as_hold_no_web_shell(pipeline: Pipeline, rule: CorrelationRule) -> None:
    shell, network, _ = victim(rule)
    pipeline.feed_json(shell)
    for number in range(QUIET + 100):
        pipeline.feed_json(flood(number, f"{number:012x}").replace(b"web_shell", b"network"))

    assert [note.severity for note in fed(pipeline, [network])] == ["medium"]
    assert pipeline.containers.evicted == 100
