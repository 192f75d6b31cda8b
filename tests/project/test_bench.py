"""The bench judges by a truth that is true, and tells what it measured as it was. No test here is about time."""

import json
import random
import subprocess
import sys
from collections import Counter
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import msgspec
import ours
import pytest
import workload
from conftest import needs
from outcome import Outcome, interleaved, ratio, summary, table
from report import page
from run import Results
from support.fake_falco import responses

from sidecar._proto.falco import outputs_pb2
from sidecar.correlation.pipeline import Pipeline

BENCH = Path(__file__).parents[2] / "bench"
COUNT = 4000


@pytest.fixture(scope="module")
def work() -> workload.Workload:
    return workload.generate(COUNT, 1.0)


def alerts(work: workload.Workload) -> list[dict[str, Any]]:
    return [msgspec.json.decode(body) for body in work.alerts]


def test_the_workload_is_the_same_for_the_same_seed_only() -> None:
    assert workload.generate(300, 0.02) == workload.generate(300, 0.02)
    assert workload.generate(300, 0.02).alerts != workload.generate(300, 0.02, seed=2).alerts


def test_the_workload_looks_like_falco(work: workload.Workload) -> None:
    for alert in alerts(work)[:100]:
        assert list(alert) == sorted(alert)
        assert list(alert["output_fields"]) == sorted(alert["output_fields"])
        assert 17 <= len(alert["output_fields"]) <= 20


@pytest.mark.slow
def test_the_share_of_relevant_alerts_is_the_one_asked_for() -> None:
    relevant = sum(b'"webrce_' in body for body in workload.generate(20_000, 0.02).alerts)

    assert relevant == pytest.approx(400, rel=0.2)


def test_containers_follow_zipf(work: workload.Workload) -> None:
    often = Counter(alert["output_fields"]["container.id"] for alert in alerts(work)).most_common(2)

    assert [name for name, _ in often] == [workload.container_id(0), workload.container_id(1)]
    assert often[0][1] > often[1][1] * 1.5


def test_some_alerts_arrive_late(work: workload.Workload) -> None:
    times = [alert["time"] for alert in alerts(work)]

    assert 0 < sum(later < earlier for earlier, later in pairwise(times)) < COUNT * 0.05


def test_decoys_are_there_and_not_part_of_the_truth(work: workload.Workload) -> None:
    assert len(work.decoys) >= 4
    assert work.truth
    assert not work.decoys & work.truth


@pytest.mark.parametrize(
    ("events", "is_one"),
    [
        ([(0, "W"), (10, "N"), (20, "C")], True),
        ([(0, "C"), (10, "S"), (900, "W")], True),
        ([(0, "C"), (10, "S"), (901, "W")], False),
        ([(0, "W"), (10, "S"), (20, "N")], False),
        ([(0, "W"), (950, "N"), (1000, "W"), (1010, "C")], True),
    ],
)
def test_the_truth_is_all_three_kinds_within_one_window(events: list[tuple[float, str]], is_one: bool) -> None:
    made = [workload.Event(at, 1, 2, kind) for at, kind in events]
    random.Random(1).shuffle(made)

    assert workload.compromised(made) == ({workload.name(made[0])} if is_one else set())


@pytest.mark.slow
@pytest.mark.parametrize("relevant", [0.02, 1.0])
def test_the_service_misses_none_and_invents_none(pipeline: Pipeline, relevant: float) -> None:
    work = workload.generate(COUNT, relevant)

    assert set(ours.critical(pipeline, work.alerts)) == work.truth


def test_the_same_alerts_go_over_grpc(work: workload.Workload) -> None:
    (message,) = responses(work.alerts[:1])
    read = outputs_pb2.response.FromString(message)

    assert read.rule.decode() == alerts(work)[0]["rule"]
    assert read.output_fields["proc.sid"].decode() == str(alerts(work)[0]["output_fields"]["proc.sid"])


@pytest.mark.slow
@pytest.mark.parametrize(("configuration", "false"), [("sec_regexp", True), ("sec_json", True)])
def test_sec_finds_all_and_knows_no_event_time(
    work: workload.Workload, tmp_path: Path, configuration: str, false: bool
) -> None:
    (tmp_path / "alerts").write_bytes(b"\n".join(work.alerts) + b"\n")
    done = subprocess.run(
        [needs("sec"), f"--conf={BENCH}/peers/{configuration}.conf", f"--input={tmp_path}/alerts", "--notail"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = set(done.stdout.split())

    assert work.truth <= found
    assert bool(found - work.truth) is false


def test_a_round_takes_every_measure_in_turn() -> None:
    clock = count(1)
    runs = interleaved(2, {name: lambda: float(next(clock)) for name in ("a", "b")})

    assert runs == {"a": [1, 3], "b": [2, 4]}
    assert ratio(runs, "b", "a") == pytest.approx((2 / 1 + 4 / 3) / 2)


ROWS = [
    Outcome("p", "cheap", 0.4, limit=0.5),
    Outcome("p", "dear", 0.6, limit=0.5),
    Outcome("p", "fast", 30_000, "/s", limit=20_000, better=">="),
    Outcome("p", "unknown", None, limit=1, told="no tool"),
    Outcome("p", "only words", 7.25, "us"),
]


def test_the_table_has_goal_measured_and_verdict_beside_each_other() -> None:
    assert [line.split("  ") for line in map(" ".join, (row.split() for row in table(ROWS)))] == [
        ["what goal measured"],
        ["cheap <= 0.5 x 0.4 x met"],
        ["dear <= 0.5 x 0.6 x MISSED"],
        ["fast >= 20,000 /s 30,000 /s met"],
        ["unknown <= 1 x not measured MISSED"],
        ["only words 7.25 us"],
    ]


def test_what_could_not_be_measured_is_no_success() -> None:
    assert summary(ROWS) == "2 passed, 2 failed"


def test_the_page_has_sizes_first_then_every_row_and_no_goal() -> None:
    share = {"2%", "100%"}
    needed = [
        Outcome("pass-through", "CPU with pass-through on", 2.0, runs={"on": [70.0]}),
        *(Outcome("HTTP", f"whole sidecar, {s} relevant, 8 connections", 1, runs={"sidecar": [9.0]}) for s in share),
        *(Outcome("gRPC", f"1,000 alerts/s at {s} relevant", 1, runs={"sidecar": [2.0]}) for s in share),
    ]
    plan = {"runs": 5, "alerts": 10, "seen": 10, "seconds": 1}
    markdown = page(Results("now", 60, True, plan, 1.5, {"cores": "2"}, {"Python": "3.11"}, [*needed, *ROWS]))

    assert (
        markdown.index("## How much a node needs")
        < markdown.index("## Compared")
        < markdown.index("## All measurements")
    )
    assert "| dear | 0.6 x |  |" in markdown
    assert "MISSED" not in markdown
    assert "not quiet" in markdown
    assert "| 1,000 | 70m | 70m | 20m | 20m |" in markdown


def test_the_bound_of_instructions_says_what_it_was_counted_with() -> None:
    bound = json.loads((BENCH / "instructions.json").read_text())

    assert set(bound) == {"instructions", "python", "msgspec", "machine"}


@pytest.mark.slow
def test_the_bench_has_help() -> None:
    done = subprocess.run([sys.executable, BENCH / "run.py", "--help"], capture_output=True, text=True, check=True)

    assert "--short" in done.stdout
