"""Whoever floods from one container harms nobody else: not their evidence, not the memory, not the time."""

import gc
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cachetools import TTLCache
from conftest import Clock, fed, spec
from support import host_flood

from sidecar.cli.testing.stories import BEGIN, alerts
from sidecar.correlation.memory.containers import MAX_GIVERS, MAX_QUIET_CONTAINERS
from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents import view
from sidecar.model import Notification, Report
from sidecar.rules.rule import CorrelationRule

BENCH = Path(__file__).parents[2] / "bench"
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


@pytest.mark.slow
def test_the_same_flood_against_one_plain_cache_loses_the_victim() -> None:
    sessions: TTLCache[tuple[str, int], str] = TTLCache(10_000, 3600)
    sessions["victim", 1] = "web shell"
    for number in range(100_000):
        sessions["loud", number] = "web shell"

    assert ("victim", 1) not in sessions


def test_pressure_is_reported_once(pipeline: Pipeline) -> None:
    reports = [m for number in range(400) for m in pipeline.process_json(flood(number))[1] if isinstance(m, Report)]

    assert [report.case for report in reports] == ["Correlator under pressure"]
    assert "205 contexts in one container, 80% of the quota" in reports[0].text


@pytest.mark.slow
def test_all_containers_together_stay_within_their_budgets(pipeline: Pipeline) -> None:
    for number in range(60_000):
        pipeline.process_json(flood(number, f"{number % 400:012x}"))
    budgets = pipeline.containers.budgets

    assert sum(len(container.contexts) for container in pipeline.containers) <= budgets["contexts"].capacity
    assert sum(len(container.lineage) for container in pipeline.containers) <= budgets["processes"].capacity
    assert budgets["contexts"].evicted > 0


@pytest.mark.slow
def test_budgets_count_exactly_what_the_containers_hold(pipeline: Pipeline) -> None:
    for number in range(30_000):
        pipeline.process_json(flood(number, f"{number % 11_000:012x}").replace(b"web_shell", b"network"))

    used = {name: budget.used for name, budget in pipeline.containers.budgets.items()}
    assert used == {
        "contexts": 0,
        "processes": sum(len(container.lineage) for container in pipeline.containers),
        "pending_bytes": sum(container.pending.size for container in pipeline.containers),
        "timeline_bytes": 0,
    }


@pytest.mark.slow
def test_forgotten_containers_leave_nothing_for_the_garbage_collector(rule: CorrelationRule) -> None:
    now = [0.0]
    pipeline = Pipeline([rule], lambda: now[0])
    gc.collect()
    gc.disable()
    try:
        for number in range(600):
            now[0] += 20
            pipeline.process_json(flood(number, f"{number // 2:012x}"))
        assert len(pipeline.containers) < 200
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_waiting_detections_are_bounded_by_kind(pipeline: Pipeline) -> None:
    for number in range(1000):
        pipeline.process_json(flood(number).replace(b"web_shell", b"network"))
    (container,) = pipeline.containers

    assert len(container.pending) == 64


@pytest.mark.slow
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
    pipeline.process_json(shell)
    for number in range(MAX_QUIET_CONTAINERS + 100):
        pipeline.process_json(flood(number, f"{number:012x}").replace(b"web_shell", b"network"))

    assert [note.severity for note in fed(pipeline, [network])] == ["medium"]
    assert pipeline.containers.evicted == 100


@pytest.mark.slow
def test_full_budgets_are_kept_to_whatever_fills_them(pipeline: Pipeline) -> None:
    budgets = pipeline.containers.budgets
    for name, room in (("contexts", 300), ("processes", 1500), ("pending_bytes", 40_000), ("timeline_bytes", 500_000)):
        budgets[name].capacity = room
    notes = []
    for number in range(6000):
        body = flood(number, f"{number % 200:012x}")
        notes += pipeline.process_json(body if number % 3 else body.replace(b"web_shell", b"network"))[1]

    assert not pipeline.reasons
    assert all(view.from_notification(note).processes for note in notes if isinstance(note, Notification))
    assert {name: budget.used <= budget.capacity * 1.1 for name, budget in budgets.items()} == dict.fromkeys(
        budgets, True
    )
    assert all(budget.evicted > 0 for budget in budgets.values())


def test_what_waits_in_vain_makes_room_before_what_may_still_count(pipeline: Pipeline, rule: CorrelationRule) -> None:
    budget = pipeline.containers.budgets["pending_bytes"]
    budget.capacity = 90_000
    for number in range(60):
        fed(pipeline, alerts(rule, [spec("tini > agent > curl", "network", container=f"old-{number}")]))
    _, network, credential = victim(rule)
    fed(pipeline, [network.replace(b"2026", b"2027"), credential.replace(b"2026", b"2027")])
    for number in range(40):
        late = alerts(rule, [spec("tini > agent > curl", "network", at="2m", container=f"new-{number}")])
        fed(pipeline, (body.replace(b"2026", b"2027") for body in late))
    shell = victim(rule)[0].replace(b"2026", b"2027")

    assert [note.severity for note in fed(pipeline, [shell])] == ["critical"]
    assert budget.evicted == 0


def test_processes_on_which_contexts_hang_are_forgotten_last(pipeline: Pipeline, rule: CorrelationRule) -> None:
    shell, network, credential = victim(rule)
    fed(pipeline, [shell])
    for container in pipeline.containers:
        container.evict_processes()
        container.evict_processes()

    assert [note.severity for note in fed(pipeline, [network, credential])] == ["medium", "critical"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by_another_service", "case"),
    [(False, "Full Web Application Compromise"), (True, "Web Shell with Credential Theft")],
)
def test_on_a_host_9000_alerts_push_out_no_daemon_of_a_web_shell(
    pipeline: Pipeline, *, by_another_service: bool, case: str
) -> None:
    notes = fed(pipeline, host_flood.attack(9000, by_another_service=by_another_service))

    assert notes[-1].case == case


def test_a_context_lives_as_long_as_its_container_is_alive(rule: CorrelationRule) -> None:
    now = [0.0]
    pipeline = Pipeline([rule], lambda: now[0])
    story = [spec(SHELL, "web_shell")]
    story += [spec(f"{SHELL} > id", "web_shell", at=f"{minutes}m") for minutes in range(10, 121, 10)]
    story.append(spec(f"{SHELL} > cat", "credential", at="121m"))
    notes = []
    for body in alerts(rule, story):
        notes += fed(pipeline, [body])
        now[0] += 600

    assert [note.case for note in notes] == ["Web Shell with Credential Theft"]
    (container,) = pipeline.containers
    assert len(container.contexts) == 1


def test_what_waits_is_placed_although_its_process_was_forgotten(pipeline: Pipeline, rule: CorrelationRule) -> None:
    shell, network, credential = victim(rule)
    fed(pipeline, [network, credential])
    for container in pipeline.containers:
        container.evict_processes()
        container.evict_processes()

    assert [note.severity for note in fed(pipeline, [shell])] == ["critical"]


def test_what_a_burst_brought_ends_in_small_steps_and_leaves_nothing(pipeline: Pipeline, clock: Clock) -> None:
    for number in range(2000):
        clock.now += 0.001
        body = flood(number, f"{number:012x}")
        pipeline.process_json(body if number % 2 else body.replace(b"web_shell", b"network"))
    clock.now += 10_000
    held = len(pipeline.containers)
    steps = 0
    while len(pipeline.containers) > 64 and steps < 200:
        steps += 1
        pipeline.process_json(flood(3000 + steps, f"new-{steps}"))
        assert held - len(pipeline.containers) <= 2 * MAX_GIVERS
        held = len(pipeline.containers)

    assert steps < 200
    assert pipeline.containers.evicted == 0
    assert pipeline.containers.budgets["contexts"].used == sum(
        len(container.contexts) + len(container.coarse) for container in pipeline.containers
    )


def test_a_container_whose_time_is_over_begins_anew(pipeline: Pipeline, clock: Clock, rule: CorrelationRule) -> None:
    shell, network, credential = victim(rule)
    fed(pipeline, [shell])
    for number in range(100):
        pipeline.process_json(flood(number, f"{number:012x}"))
    clock.now += 10_000

    assert fed(pipeline, [network, credential]) == []
    assert all(container.where.container for container in pipeline.containers)
