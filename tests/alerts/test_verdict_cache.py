"""An alert that is known by its end means what a full look at it means, whatever stands in front of that end."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from conftest import Clock, fed
from hypothesis import given
from hypothesis import strategies as st
from support.hostile_corpus import RAW_VALUES, STOCK

from sidecar.alerts.decode import KEYS
from sidecar.alerts.verdict_cache import MAX_ENTRIES, MAX_SUFFIX_BYTES, TIME_BYTES, VerdictCache
from sidecar.correlation.pipeline import Pipeline
from sidecar.rules.loading import SHIPPED, load

RULES = load([SHIPPED / "correlation"])


def written(rule: str = "Nobody cares", tag: str = "network", at: int = 0, **fields: Any) -> bytes:
    """An alert as Falco writes it: compact, its keys sorted."""
    body = {
        "hostname": "node-1",
        "output": "text",
        "output_fields": {"proc.cmdline": "sh -c id", "proc.name": "sh", "proc.pid": 70 + at, **fields},
        "priority": "Notice",
        "rule": rule,
        "source": "syscall",
        "tags": ["container", tag],
        "time": f"2026-11-24T03:03:08.{at:09}Z",
    }
    return json.dumps(body, separators=(",", ":"), sort_keys=True).encode()


SHELL = written("Web server started a shell or tool", "webrce_web_shell")


class Blind(VerdictCache):
    """Never finds anything, so that every alert is decoded in full."""

    def lookup(self, body: bytes) -> None:
        return None


def outcome(bodies: Iterable[bytes], *, blind: bool) -> tuple[Any, ...]:
    """All that a pipeline gives and counts."""
    pipeline = Pipeline(RULES, Clock())
    if blind:
        pipeline._verdicts = Blind()
    verdicts = [pipeline.process_json(body) for body in bodies]
    kept = [(container.where, len(container.lineage), container.usage()) for container in pipeline.containers]
    return verdicts, pipeline.flush(), dict(pipeline.reasons), pipeline.received, pipeline.detections, kept


def spoilt(body: bytes, name: str, value: str) -> bytes:
    """The alert with a JSON value, or what is none, in place of one of its output fields."""
    fields = json.loads(body)["output_fields"]
    fields[name] = "HERE"
    text = json.dumps(fields, separators=(",", ":"), sort_keys=True).replace('"HERE"', value)
    front, _, behind = body.partition(b'"output_fields":')
    return (
        front
        + b'"output_fields":'
        + text.encode("utf-8", "surrogatepass")
        + behind[behind.index(b'},"priority"') + 1 :]
    )


def test_recorded_alerts_mean_the_same_when_their_ends_are_known() -> None:
    again = [line.replace(b'"proc.pid":', b'"proc.pid":1') for line in STOCK]

    assert outcome([*STOCK, *again], blind=False) == outcome([*STOCK, *again], blind=True)


@pytest.mark.parametrize("base", [written(), SHELL], ids=["nobody's", "relevant"])
@given(name=st.sampled_from(sorted(KEYS)), value=st.sampled_from(RAW_VALUES), other=st.sampled_from(RAW_VALUES))
def test_no_value_of_a_field_changes_what_its_alert_means(base: bytes, name: str, value: str, other: str) -> None:
    bodies = [base, spoilt(base, name, value), spoilt(base, "proc.cmdline", other)]

    if b"webrce" in base:
        assert outcome(bodies, blind=False) == outcome(bodies, blind=True)
    else:
        assert outcome(bodies, blind=False)[1] == []


@pytest.mark.parametrize(
    ("what", "old", "new"),
    [
        ("a uuid behind the time", b'Z"}', b'","uuid":"00000000-0000"}'),
        ("another rule behind the time", b'"2026-11-24T03:03:08.000000000Z"}', b'"1","rule":"Web shell  a"}'),
        ("an event of Falco's own", b'"syscall"', b'"internal"'),
        ("no output fields", b'{"proc.cmdline":"sh -c id","proc.name":"sh","proc.pid":70}', b"{}"),
        ("output fields that are null", b'{"proc.cmdline":"sh -c id","proc.name":"sh","proc.pid":70}', b"null"),
        ("tags that are none", b'["container","network"]', b'[1,{"a":2}]'),
        ("an unknown priority", b'"Notice"', b'"Loud"'),
        ("an end of line", b'Z"}', b'Z"}\n'),
        ("a time without decimals", b".000000000Z", b"Z"),
    ],
)
def test_what_is_odd_about_an_alert_is_counted_each_time(what: str, old: bytes, new: bytes) -> None:
    for base in (written(), SHELL):
        odd = base.replace(old, new)
        bodies = [base, odd, odd, base]

        assert outcome(bodies, blind=False)[1:3] == outcome(bodies, blind=True)[1:3], what


@pytest.mark.parametrize("base", [written(), SHELL], ids=["nobody's", "relevant"])
@pytest.mark.parametrize(
    "tail", [b'1","uuid":"00000000-0000-00000"}', b'1","source":"internal"         }'], ids=["a uuid", "internal"]
)
def test_a_key_behind_the_time_is_seen_although_the_tail_is_as_long_as_a_time(base: bytes, tail: bytes) -> None:
    assert len(tail) == TIME_BYTES
    bodies = [base, base[:-TIME_BYTES] + tail]

    assert outcome(bodies, blind=False)[1:3] == outcome(bodies, blind=True)[1:3]


def test_bytes_of_a_relevant_alert_that_are_not_utf8_are_counted_each_time() -> None:
    bodies = [SHELL, SHELL.replace(b"node-1", b"node-\xff"), SHELL.replace(b"-c id", b"-c \xff")]

    assert outcome(bodies, blind=False) == outcome(bodies, blind=True)


def test_a_text_that_quotes_an_ending_is_no_ending(rules: list[Any], clock: Clock) -> None:
    pipeline = Pipeline(rules, clock)
    pipeline.process_json(written())
    pipeline.process_json(SHELL)
    quoted = written(at=5)[written(at=5).index(b',"priority"') :].decode()
    shell = written("Web server started a shell or tool", "webrce_web_shell", at=6, **{"user.name": quoted})
    credential = written("Token", "webrce_credential", at=7, **{"proc.ppid": 76, "evt.type": "execve"})

    assert [note.case for note in fed(pipeline, [shell, credential])] == ["Web Shell with Credential Theft"]


def test_neither_many_endings_nor_long_ones_fill_the_memory(rules: list[Any], clock: Clock) -> None:
    pipeline = Pipeline(rules, clock)
    for number in range(MAX_ENTRIES + 10):
        pipeline.process_json(written(f"rule {number}"))
    pipeline.process_json(written("long", "x" * MAX_SUFFIX_BYTES))

    assert len(pipeline._verdicts) <= MAX_ENTRIES
    assert pipeline.received == MAX_ENTRIES + 11
