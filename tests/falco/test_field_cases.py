"""Field cases: everyday work that others reported, and attacks that others wrote, with what must come of them.

Each is a file of `tests/data/field_cases`: what is expected, a play in the notation of `e2e.tree` (if it has one) that the
shipped rules are evaluated on, and the alerts that the rules of then raised. Those not decided rightly yet are listed with
the reason, and fail here once they are.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from e2e import tree
from falco import playing
from falco.ruleset import shipped
from support import fast_yaml

from sidecar.correlation.pipeline import Pipeline
from sidecar.rules import loading

FOLDER = Path(__file__).parents[1] / "data" / "field_cases"
CASES = sorted(FOLDER.glob("*.md"))
PENDING: dict[str, dict[str, str]] = fast_yaml.load((FOLDER / "pending.yaml").read_text())
SEVERITIES = ("silent", "low", "medium", "high", "critical")


def worst(alerts: Iterable[Mapping[str, Any]]) -> str:
    """The highest severity of the incidents that alerts lead to."""
    pipeline = Pipeline(loading.load([loading.SHIPPED / "correlation"]), lambda: 0.0)
    notes = [note for alert in alerts for note in pipeline.process_json(json.dumps(alert).encode())[1]]
    severities = [note.severity for note in [*notes, *pipeline.flush()]]
    return max(severities, key=SEVERITIES.index, default="silent")


def expected(path: Path) -> set[str]:
    """The severities that a file accepts."""
    wanted = next(line for line in path.read_text().splitlines() if line.startswith("expected:"))
    if re.search(r"argue|tuned", wanted):
        return set(SEVERITIES)
    if "at most" in wanted:
        return {"silent", "low", "medium"}
    severity = re.search(r"critical|high|medium|silen", wanted)
    assert severity, wanted
    return {"silent" if severity[0] == "silen" else severity[0]}


def play(path: Path) -> tree.Scenario | None:
    """The play of a file."""
    found = re.search(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL)
    return tree.scenario("field", fast_yaml.load(found[1])[0]) if found else None


def params(kind: str, paths: Iterable[Path]) -> list[Any]:
    """The files as parameters; those still pending are expected to fail."""
    reasons = PENDING[kind]
    assert set(reasons) <= {path.stem for path in CASES}, "no longer a case"
    return [
        pytest.param(
            path,
            id=path.stem,
            marks=[pytest.mark.xfail(reason=reasons[path.stem], strict=True)] if path.stem in reasons else [],
        )
        for path in paths
    ]


@pytest.mark.parametrize("path", params("plays", [path for path in CASES if play(path)]))
def test_the_play_comes_to_what_is_expected(path: Path) -> None:
    scenario = play(path)
    assert scenario is not None

    assert worst(playing.alerts(scenario, shipped())) in expected(path)


@pytest.mark.parametrize("path", params("alerts", [path for path in CASES if path.with_suffix(".jsonl").exists()]))
def test_the_recorded_alerts_come_to_what_is_expected(path: Path) -> None:
    alerts = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]

    assert worst(alerts) in expected(path)
