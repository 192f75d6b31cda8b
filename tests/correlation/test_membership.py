"""Which context a detection joins, where only a guard keeps a process out."""

import json

from conftest import Clock, fed
from correlation.test_flood import flood

from sidecar.correlation.memory.container import MAX_CONTEXTS
from sidecar.correlation.pipeline import Pipeline
from sidecar.rules.rule import CorrelationRule

FOLDED = MAX_CONTEXTS + 44
"""Web shells of one container, so many that some contexts are folded into its coarse one."""


def credential(fields: dict[str, object]) -> bytes:
    """A read of the password hashes in the flooded container, right after the flood."""
    alert = json.loads(flood(FOLDED))
    shown = {"container.id": alert["output_fields"]["container.id"], "proc.name": "cat", "evt.type": "open"}
    return json.dumps({**alert, "tags": ["webrce_credential"], "output_fields": {**shown, **fields}}).encode()


def test_under_pressure_only_processes_from_inside_join_the_coarse_context(
    rules: list[CorrelationRule], clock: Clock
) -> None:
    pipeline = Pipeline(rules, clock)
    fed(pipeline, [flood(number) for number in range(FOLDED)])
    entered = {"proc.pid": 7, "proc.ppid": 6, "proc.aname[1]": "bash", "proc.apid[2]": 5}
    entered |= {"proc.aname[2]": "containerd-shim"}
    orphan = {"proc.pid": 8, "proc.ppid": 1, "proc.aname[1]": "tini"}

    assert fed(pipeline, [credential(entered)]) == []
    assert [note.case for note in fed(pipeline, [credential(orphan)])] == ["Web Shell with Credential Theft"]


def test_under_pressure_a_process_below_the_first_one_joins_although_the_runtime_above_it_is_shown(
    rules: list[CorrelationRule], clock: Clock
) -> None:
    pipeline = Pipeline(rules, clock)
    fed(pipeline, [flood(number) for number in range(FOLDED)])
    below = {"proc.pid": 8, "proc.ppid": 7, "proc.aname[1]": "cron", "proc.apid[2]": 6, "proc.aname[2]": "tini"}
    below |= {"proc.apid[3]": 5, "proc.aname[3]": "containerd-shim"}

    assert [note.case for note in fed(pipeline, [credential(below)])] == ["Web Shell with Credential Theft"]


def test_an_unknown_first_process_is_inferred_below_the_container_runtime(
    rules: list[CorrelationRule], clock: Clock
) -> None:
    pipeline = Pipeline(rules, clock)
    shell = json.loads(flood(0))
    shell["output_fields"] |= {"proc.aname[2]": "entry", "proc.apid[3]": 4, "proc.aname[3]": "containerd-shim"}
    entry = shell["output_fields"]["proc.apid[2]"]
    orphan = {"proc.pid": 8, "proc.ppid": entry, "proc.aname[1]": "entry", "proc.apid[2]": 4}
    orphan |= {"proc.aname[2]": "containerd-shim"}

    notes = fed(pipeline, [json.dumps(shell).encode(), credential(orphan)])

    assert [note.case for note in notes] == ["Web Shell with Credential Theft"]


def test_a_context_stays_when_its_anchor_s_pid_anchors_another_one(rule: CorrelationRule, clock: Clock) -> None:
    pipeline = Pipeline([rule], clock)
    first, second = json.loads(flood(0)), json.loads(flood(1))
    first["output_fields"] |= {"proc.ppid": 100, "proc.ppid.ts": 10**18}
    second["output_fields"] |= {"proc.ppid": 100, "proc.ppid.ts": 2 * 10**18, "proc.aname[1]": "httpd"}

    fed(pipeline, [json.dumps(first).encode(), json.dumps(second).encode()])

    (container,) = pipeline.containers
    assert [context.name for context in container.contexts_of(0)] == ["nginx", "httpd"]
