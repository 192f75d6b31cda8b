"""A flood of one container is summarized; nobody else's incidents wait behind it."""

from pathlib import Path

from conftest import Clock
from msgspec.structs import replace
from support.messages import note
from support.outage import DownAndUp, Life

from sidecar.delivery.quota import ALLOWED, DIGEST_SECONDS, MAX_SERVICES, WINDOW_SECONDS, Quota
from sidecar.model import MORE_INCIDENTS, Notification


def quota() -> tuple[Quota, Clock]:
    clock = Clock()
    return Quota(clock, lambda: 0), clock


def test_the_first_incidents_of_a_container_are_sent_and_the_others_are_summarized() -> None:
    limited, clock = quota()
    sent = [limited.allows(note(f"{number:016x}", container="loud")) for number in range(ALLOWED + 214)]
    clock.now = DIGEST_SECONDS
    (digest,) = limited.digests()

    assert sum(sent) == ALLOWED
    assert digest.case == MORE_INCIDENTS
    assert digest.text.startswith("214 more incidents in pod ")
    assert limited.digests() == []


def test_a_flood_of_one_container_takes_nothing_from_another() -> None:
    limited, _ = quota()
    for number in range(1000):
        limited.allows(note(f"{number:016x}", container="loud"))

    assert limited.allows(note("a" * 16, container="quiet"))


def test_critical_incidents_have_a_quota_of_their_own() -> None:
    limited, _ = quota()
    for number in range(1000):
        limited.allows(note(f"{number:016x}", container="loud"))

    assert limited.allows(note("a" * 16, "critical", container="loud"))


def test_an_incident_that_was_announced_may_rise() -> None:
    limited, _ = quota()
    for number in range(1000):
        limited.allows(note(f"{number:016x}", container="loud"))
        limited.allows(note(f"{number:016x}", "critical", container="loud"))

    assert limited.allows(note(f"{0:016x}", "critical", container="loud"))
    assert not limited.allows(note(f"{900:016x}", "critical", container="loud"))


def test_after_the_window_a_container_may_speak_again() -> None:
    limited, clock = quota()
    for number in range(100):
        limited.allows(note(f"{number:016x}", container="loud"))
    clock.now = WINDOW_SECONDS

    assert limited.allows(note("a" * 16, container="loud"))


def on_host(incident: str, service: str) -> Notification:
    made = note(incident, container="")
    detection, groups = made.timeline[0]
    return replace(made, timeline=((replace(detection, path=((2, "sh"), (1, service))), groups),))


def test_services_of_one_host_have_a_quota_each() -> None:
    limited, clock = quota()
    for number in range(1000):
        limited.allows(on_host(f"{number:016x}", "nginx"))
    clock.now = DIGEST_SECONDS

    assert limited.allows(on_host("a" * 16, "postgres"))
    assert "980 more incidents of nginx in " in limited.digests()[0].text


def test_made_up_names_of_services_share_one_quota() -> None:
    limited, _ = quota()
    sent = sum(limited.allows(on_host(f"{number:016x}", f"made-up-{number}")) for number in range(1000))

    assert sent == MAX_SERVICES + ALLOWED


def test_the_digest_names_the_worst_that_was_left_out() -> None:
    limited, clock = quota()
    for number in range(100):
        limited.allows(note(f"{number:016x}", "critical" if number > 50 else "medium", container="loud"))
    clock.now = DIGEST_SECONDS

    assert [report.severity for report in limited.digests()] == ["critical"]


def test_what_is_only_summarized_is_on_the_pages_and_is_not_sent_after_a_restart(tmp_path: Path) -> None:
    sink = DownAndUp()
    life = Life(tmp_path / "state.db", sink, 10)
    notes = [note(f"{number:016x}", container="loud") for number in range(50)]
    life.outbox.decide(notes)
    pending = life.delivery.pending
    life.state.close()
    life = Life(tmp_path / "state.db", sink, 10, replayed=notes)

    assert pending == life.delivery.pending == ALLOWED
    assert life.state.archive.find(f"{49:016x}") is not None
    life.state.close()
