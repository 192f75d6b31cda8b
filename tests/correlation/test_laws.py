"""Laws that hold for every stream of alerts."""

from conftest import cases, fed, spec
from hypothesis import given
from hypothesis import strategies as st
from support.rules import RULES
from support.rules import WEB_RCE as RULE

from sidecar.cli.testing.stories import alerts
from sidecar.correlation.memory.container import MAX_CONTEXTS, MAX_PROCESSES
from sidecar.correlation.pipeline import Pipeline
from sidecar.model import RANK
from sidecar.rules.spec import AlertSpec
from sidecar.yamlfile.typed import Duration

TREES = (
    "tini > nginx > sh",
    "tini > nginx > sh > curl",
    "tini > nginx > nginx#1 > sh > cat",
    "tini > php-fpm > bash",
    "tini > php-fpm > bash > python3 > nc",
    "tini > cron > sh > curl",
    "containerd-shim > bash > curl",
)


@st.composite
def streams(draw: st.DrawFn) -> list[AlertSpec]:
    """Up to twelve detections in two containers within ten minutes, at times of their own."""
    count = draw(st.integers(1, 12))
    return [
        AlertSpec(
            process=draw(st.sampled_from(TREES)),
            detect=[draw(st.sampled_from(RULE.groups))],
            at=Duration(draw(st.integers(0, 600)) * 10**9 + number),
            container=draw(st.sampled_from(["one", "two"])),
        )
        for number in range(count)
    ]


def ran(bodies: list[bytes]) -> list[tuple[str, str, str]]:
    """Container, severity and case of each notification."""
    pipeline = Pipeline(RULES, lambda: 0.0)
    notes = fed(pipeline, bodies)
    return [(note.where.container, note.severity, note.case) for note in notes if note.correlation_rule == RULE.id]


def finals(notes: list[tuple[str, str, str]]) -> dict[str, int]:
    """The strongest severity of each container."""
    strongest: dict[str, int] = {}
    for container, severity, _ in notes:
        strongest[container] = max(strongest.get(container, 0), RANK[severity])
    return strongest


@given(streams(), st.randoms(use_true_random=False))
def test_the_final_severity_does_not_depend_on_the_order(stream: list[AlertSpec], random: object) -> None:
    bodies = list(alerts(RULE, stream))
    shuffled = list(bodies)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert finals(ran(bodies)) == finals(ran(shuffled))


@given(streams())
def test_duplicates_change_nothing(stream: list[AlertSpec]) -> None:
    bodies = list(alerts(RULE, stream))

    assert ran(bodies) == ran([body for body in bodies for _ in range(3)])


@given(streams())
def test_two_containers_never_influence_each_other(stream: list[AlertSpec]) -> None:
    both = finals(ran(list(alerts(RULE, stream))))
    apart: dict[str, int] = {}
    for name in ("one", "two"):
        apart |= finals(ran(list(alerts(RULE, [s for s in stream if s.container == name], stream))))

    assert apart == both


@given(streams())
def test_severity_only_rises_within_an_incident(stream: list[AlertSpec]) -> None:
    pipeline = Pipeline(RULES, lambda: 0.0)
    notes = fed(pipeline, alerts(RULE, stream))
    seen: dict[str, int] = {}
    for note in notes:
        assert RANK[note.severity] > seen.get(note.incident, 0)
        seen[note.incident] = RANK[note.severity]


@given(streams())
def test_without_a_web_shell_there_is_never_anything(stream: list[AlertSpec]) -> None:
    assert ran(list(alerts(RULE, [s for s in stream if s.detect != ["web_shell"]]))) == []


def test_memory_of_one_container_is_bounded_and_its_evidence_is_folded_not_forgotten() -> None:
    pipeline = Pipeline(RULES, lambda: 0.0)
    flood = [spec(f"tini > nginx#{number} > sh", "web_shell", container="loud") for number in range(MAX_CONTEXTS + 100)]
    for body in alerts(RULE, flood):
        pipeline.process_json(body)
    (container,) = pipeline.containers

    assert (len(container.contexts), container.contexts.folded) == (MAX_CONTEXTS, 100)
    assert len(container.lineage) <= MAX_PROCESSES
    notes = [
        n
        for b in alerts(RULE, [spec("tini > lost > curl", "network", at="1s", container="loud")])
        for n in pipeline.process_json(b)[1]
    ]
    assert cases(notes + pipeline.flush()) == [("medium", "Web Shell with Network Activity")]


def test_a_flood_from_one_container_does_not_push_out_another() -> None:
    pipeline = Pipeline(RULES, lambda: 0.0)
    victim = list(
        alerts(RULE, [spec("tini > nginx > sh", "web_shell"), spec("tini > nginx > sh > cat", "credential", at="60s")])
    )
    pipeline.process_json(victim[0])
    flood = [spec(f"tini > nginx#{n} > sh", "web_shell", at=f"{n}ms", container="loud") for n in range(3000)]
    for body in alerts(RULE, flood):
        pipeline.process_json(body)
    notes = fed(pipeline, victim[1:])

    assert cases(notes) == [("medium", "Web Shell with Credential Theft")]
