"""Incidents that are kept: what a list finds, how they rise, what bounds them.

Covers: `storage.opening`, `storage.shares`, `storage.search_terms`, `storage.kept_alerts`, `packed_alert`, `text.mitre`.
"""

import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from conftest import Play, spec
from msgspec.structs import replace
from support.cost import cost

from sidecar.cli.testing.stories import BEGIN
from sidecar.model import Notification
from sidecar.packed_alert import unpack
from sidecar.storage import archive, kept_alerts
from sidecar.storage.archive import RETENTION_SECONDS, Archive, IncidentFilter, in_memory

SECOND = 1_000_000_000


@pytest.fixture
def notes(play: Play) -> list[Notification]:
    return play(
        spec("tini > nginx > sh", "web_shell"),
        spec("tini > nginx > sh > curl", "network", at="1s"),
        spec("tini > nginx > sh > cat", "credential", at="2s"),
    )


def kept(notes: list[Notification]) -> Archive:
    made = in_memory()
    for note in notes:
        made.put(note, step=True)
    return made


def many(note: Notification, count: int) -> Archive:
    made = Archive(in_memory()._db, capacity=count)
    severities = ("low", "medium", "high", "critical")
    for number in range(count):
        where = note.where._replace(pod=f"web-{number}")
        last = note.last + number * SECOND
        one = replace(note, incident=f"{number:016x}", severity=severities[number % 4], where=where, last=last)
        made.put(one, step=True)
    return made


def ids(found: tuple[list[archive.IncidentRow], int]) -> list[int]:
    return [int(row.id, 16) for row in found[0]]


def test_an_incident_is_one_row_with_the_steps_by_which_it_rose(notes: list[Notification]) -> None:
    (row,), total = kept(notes).listed(IncidentFilter(), now=BEGIN)

    assert (total, row.severity, row.case) == (1, "critical", "Full Web Application Compromise")
    assert [(step.severity, step.came_from) for step in row.steps] == [("medium", ""), ("critical", "medium")]


def test_it_is_found_in_full_by_its_id_and_by_the_begin_of_it(notes: list[Notification]) -> None:
    made = kept(notes)
    (name,) = made.matching(notes[0].incident[:4])
    found = made.find(name)

    assert found is not None
    assert found[0] == notes[-1]
    assert made.find("0" * 16) is None


def test_told_again_after_a_crash_it_has_no_further_step_and_is_not_less_severe(notes: list[Notification]) -> None:
    (row,), _ = kept([*notes, *notes[:1]]).listed(IncidentFilter(), now=BEGIN)

    assert (row.severity, len(row.steps)) == ("critical", 2)


def test_what_happens_in_silence_changes_the_row_and_is_no_step(notes: list[Notification]) -> None:
    made = kept(notes)
    made.put(replace(notes[-1], count=9), step=False)
    (row,), _ = made.listed(IncidentFilter(), now=BEGIN)

    assert (row.count, len(row.steps)) == (9, 2)


def test_it_is_closed_an_hour_after_its_last_evidence(notes: list[Notification]) -> None:
    made, quiet = kept(notes), notes[-1].last + 3600 * SECOND

    assert [made.listed(IncidentFilter(state=state), now=quiet - 1)[1] for state in ("open", "closed")] == [1, 0]
    assert [made.listed(IncidentFilter(state=state), now=quiet)[1] for state in ("open", "closed")] == [0, 1]


def test_open_incidents_of_a_host_that_lost_events_are_marked(notes: list[Notification]) -> None:
    made = kept(notes)
    made.lost_events("node-1", BEGIN)
    found = made.find(notes[0].incident)

    assert found is not None
    assert found[0].incomplete


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (IncidentFilter(), [7, 6, 5, 4, 3, 2, 1, 0]),
        (IncidentFilter(limit=2, offset=1), [6, 5]),
        (IncidentFilter(sort="last", ascending=True, limit=2), [0, 1]),
        (IncidentFilter(sort="severity", limit=3), [7, 3, 6]),
        (IncidentFilter(severities=frozenset(("critical", "low"))), [7, 4, 3, 0]),
        (IncidentFilter(text="WEB-5"), [5]),
        (IncidentFilter(text="%"), []),
        (IncidentFilter(text="' OR 1=1 --"), []),
        (IncidentFilter(since=BEGIN + 8 * SECOND), [7, 6]),
    ],
)
def test_a_list_is_filtered_sorted_and_paged(
    notes: list[Notification], wanted: IncidentFilter, found: list[int]
) -> None:
    assert ids(many(notes[-1], 8).listed(wanted, now=BEGIN)) == found


def test_the_oldest_go_beyond_number_size_and_age(notes: list[Notification]) -> None:
    made = many(notes[-1], 10)
    made._capacity = 4
    made.prune(BEGIN)
    assert ids(made.listed(IncidentFilter(), now=BEGIN)) == [9, 8, 7, 6]

    made._max_bytes = 2 * made._db.execute("SELECT max(size) FROM incidents").fetchone()[0]
    made.prune(BEGIN)
    assert ids(made.listed(IncidentFilter(), now=BEGIN)) == [9, 8]

    made.prune(notes[-1].last + 9 * SECOND + RETENTION_SECONDS * SECOND)
    assert ids(made.listed(IncidentFilter(), now=BEGIN)) == [9]


def test_the_bounds_are_kept_without_being_asked(notes: list[Notification]) -> None:
    made = in_memory()
    made._capacity = 5
    for number in range(archive.PRUNE_EVERY):
        made.put(replace(notes[-1], incident=f"{number:016x}"), step=True)

    assert made.listed(IncidentFilter(), now=BEGIN)[1] == 5


@pytest.fixture
def searched(play: Play) -> Archive:
    fields = {"user.name": "www-data", "container.image.repository": "registry.example/php", "fd.name": "/etc/shadow"}
    curl = {"proc.cmdline": "curl http://203.0.113.9:9001/k", "fd.sip": "203.0.113.9", "fd.sport": 9001}
    return kept(
        play(
            spec("tini > nginx > sh", "web_shell", fields=fields),
            spec("tini > nginx > sh > curl", "network", at="1s", fields=curl),
            spec("tini > nginx > sh > cat", "credential", at="2s", fields=fields),
        )
    )


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("address", "203.0.113.9"),
        ("address", "203.0.113.9:9001"),
        ("address", "203.0"),
        ("image", "example/PHP"),
        ("command", "curl http"),
        ("technique", "T1505"),
        ("technique", "web shell"),
        ("user", "www-data"),
        ("rule", "web_shell"),
        ("namespace", "shop"),
    ],
)
def test_an_incident_is_found_by_what_one_has_in_hand(searched: Archive, kind: str, text: str) -> None:
    assert searched.listed(IncidentFilter(terms=((kind, text),)), now=BEGIN)[1] == 1
    assert searched.listed(IncidentFilter(text=text), now=BEGIN)[1] == 1
    assert searched.listed(IncidentFilter(terms=((kind, text), ("user", "root"))), now=BEGIN)[1] == 0


@pytest.mark.parametrize(
    ("kind", "text"), [("address", "203.0.113.90"), ("address", "3.0.113.9"), ("image", "curl"), ("namespace", "sho")]
)
def test_another_address_or_another_kind_of_thing_finds_nothing(searched: Archive, kind: str, text: str) -> None:
    assert searched.listed(IncidentFilter(terms=((kind, text),)), now=BEGIN)[1] == 0


def test_the_alerts_behind_an_incident_are_kept_with_it(searched: Archive) -> None:
    found = searched.find(searched.matching("")[0])

    assert found is not None
    alerts = [unpack(detection.packed) for detection, _ in found[0].timeline]
    assert [alert.fields.user for alert in alerts] == ["www-data"] * 3


def test_an_alert_that_memory_was_too_short_for_stays_as_it_was_stored(notes: list[Notification]) -> None:
    made = kept(notes)
    (first, groups), *others = notes[-1].timeline
    made.put(replace(notes[-1], timeline=((replace(first, packed=b""), groups), *others)), step=False)
    found = made.find(notes[-1].incident)

    assert found is not None
    assert found[0].timeline == notes[-1].timeline


def test_alerts_beyond_their_budget_go_and_the_incidents_stay(notes: list[Notification]) -> None:
    made = many(notes[-1], 10)
    made._max_alert_bytes = 3 * made._db.execute("SELECT max(size) FROM kept_alerts").fetchone()[0]
    made.prune(BEGIN)

    assert made.listed(IncidentFilter(), now=BEGIN)[1] == 10
    assert made._db.execute("SELECT id FROM kept_alerts ORDER BY id").fetchall() == [(f"{n:016x}",) for n in (7, 8, 9)]


def test_the_alerts_of_one_incident_are_bounded_and_its_ends_stay(
    notes: list[Notification], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_alerts, "MAX_INCIDENT_BYTES", 600)
    note = notes[-1]
    (first, groups), *_ = note.timeline
    events = [(replace(first, time=first.time + number), groups) for number in range(200)]
    made = kept([replace(note, timeline=tuple(events))])
    found = made.find(note.incident)

    assert found is not None
    have = [bool(detection.packed) for detection, _ in found[0].timeline]
    assert (have[0], have[100], have[-1]) == (True, False, True)
    assert len(made._db.execute("SELECT body FROM kept_alerts").fetchone()[0]) <= 600


def test_what_belongs_to_an_incident_goes_with_it(notes: list[Notification]) -> None:
    made = many(notes[-1], 10)
    made._capacity = 4
    made.prune(BEGIN)

    assert Counter(table for table, *_ in made.rows()) == dict.fromkeys(archive.TABLE_NAMES, 4)


def test_another_archive_takes_over_everything(notes: list[Notification]) -> None:
    source, made = kept(notes), in_memory()
    made.add_rows(source.rows())

    assert made.find(notes[-1].incident) == source.find(notes[-1].incident)
    assert made.listed(IncidentFilter(terms=(("rule", "web_shell"),)), now=BEGIN)[1] == 1


def test_what_an_older_version_stored_is_searched_too(notes: list[Notification], tmp_path: Path) -> None:
    source, path = kept(notes), tmp_path / "state.db"
    source._db.execute("DROP TABLE search_terms")
    source._db.execute("DROP TABLE kept_alerts")
    file = sqlite3.connect(path)
    source._db.backup(file)
    file.close()

    assert archive.read_only(path).listed(IncidentFilter(text="nginx"), now=BEGIN)[1] == 0
    assert archive.read_only(path).listed(IncidentFilter(terms=(("command", "cat"),)), now=BEGIN)[1] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "wanted",
    [
        IncidentFilter(),
        IncidentFilter(sort="severity"),
        IncidentFilter(text="web-99"),
        IncidentFilter(text="sh"),
        IncidentFilter(terms=(("address", "203.0.113.9"), ("command", "curl"))),
        IncidentFilter(offset=9_900),
        IncidentFilter(state="open", sort="count"),
    ],
)
def test_a_list_of_10000_incidents_costs_at_most_a_hundred_milliseconds(
    notes: list[Notification], wanted: IncidentFilter
) -> None:
    made = many(notes[-1], 10_000)

    assert cost(lambda: made.listed(wanted, now=BEGIN)) < 100
