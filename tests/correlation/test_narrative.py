"""What happened, in a sentence that is made of facts."""

from typing import Any

import pytest
from conftest import Play, spec

from sidecar.correlation.narrative import remote_of

SHELL = spec("tini > nginx > sh", "web_shell")


def test_the_sentence_has_place_service_program_address_and_file(play: Play) -> None:
    note = play(
        SHELL,
        spec("tini > nginx > sh > nc", "network", at="1s", fields={"fd.sip": "203.0.113.9", "fd.sport": 4444}),
        spec(
            "tini > nginx > sh > cat",
            "credential",
            at="2s",
            fields={"fd.name": "/run/secrets/kubernetes.io/serviceaccount/token"},
        ),
    )[-1]

    assert note.summary == (
        'In pod shop/app-7d9f, nginx ran "sh", which then contacted 203.0.113.9:4444 '
        "and read the Kubernetes service-account token."
    )


def test_without_address_and_file_the_command_is_told(play: Play) -> None:
    note = play(SHELL, spec("tini > nginx > sh > curl", "network", at="1s", fields={"proc.cmdline": "curl http://e"}))[
        -1
    ]

    assert note.summary.endswith('which then ran "curl http://e".')


def test_a_command_that_is_evidence_of_two_activities_is_quoted_once(play: Play) -> None:
    curl = {"proc.cmdline": "curl http://169.254.169.254/latest/api/token"}
    note = play(
        SHELL,
        spec("tini > nginx > sh > curl", "network", at="1s", fields=curl),
        spec("tini > nginx > sh > curl", "credential", at="1s", fields=curl),
    )[-1]

    assert note.summary.endswith(
        'nginx ran "sh", which then looked for credentials with "curl http://169.254.169.254/latest/api/token".'
    )


def test_the_metadata_service_is_called_by_its_name(play: Play) -> None:
    fields: dict[str, str | int] = {"fd.sip": "169.254.169.254", "fd.sport": 80}
    note = play(SHELL, spec("tini > nginx > sh > curl", "credential", at="1s", fields=fields))[-1]

    assert note.summary.endswith("asked the cloud metadata service (169.254.169.254:80) for credentials.")


def test_a_long_command_is_cut_and_many_are_told_by_two(play: Play) -> None:
    curls = [
        spec(f"tini > nginx > sh > curl#{n}", "network", at=f"{n}s", fields={"proc.cmdline": f"curl {n}" + "x" * 500})
        for n in range(1, 5)
    ]
    note = play(*curls, SHELL)[-1]

    assert note.summary.count("curl") == 2
    assert len(note.summary) < 300


@pytest.mark.parametrize(
    ("detail", "remote"),
    [
        ("203.0.113.9:4444", "203.0.113.9:4444"),
        ("10.0.0.1:5000->203.0.113.9:80", "203.0.113.9:80"),
        ("2001:db8::1:443", "2001:db8::1:443"),
        ("/etc/shadow", ""),
        ("", ""),
        ("a:b", ""),
    ],
)
def test_an_address_is_told_from_a_file(detail: str, remote: str) -> None:
    assert remote_of(detail) == remote


def test_the_command_that_ends_sessions_names_every_process_below_the_service_and_never_the_service(play: Play) -> None:
    reads = spec("tini > nginx > nginx#1 > sh > cat", "credential", at="1s")
    own = spec("tini > nginx > nginx#1 > curl", "web_shell", "network", "credential", at="1s", container="b")
    by_shell = play(spec("tini > nginx > nginx#1 > sh", "web_shell"), reads)[-1]
    by_service = play(own)[-1]

    seconds = by_shell.first // 10**9
    cat, shell = (f"{pid}:{at}" for pid, at in ((by_shell.fields.vpid, seconds + 1), (by_shell.fields.pvpid, seconds)))
    assert by_shell.triage[1][1].endswith(f"sh '{cat} {shell}'")
    assert by_service.triage[1][1].endswith(f"sh {by_service.fields.vpid}:{by_service.first // 10**9}")


@pytest.mark.parametrize(
    ("tool", "place"),
    [
        ('echo \'{"apiVersion"', {}),
        ("docker", {"fields": {"k8s.pod.name": "", "k8s.ns.name": ""}}),
        ("for i in iptables", {"host": True}),
    ],
)
def test_the_next_steps_have_their_commands_for_a_pod_a_container_and_a_host(
    play: Play, tool: str, place: dict[str, Any]
) -> None:
    note = play(spec("nginx > sh", "web_shell", **place), spec("nginx > sh > nc", "network", at="1s", **place))[-1]

    assert note.triage[0][1].startswith(tool)
    assert [bool(command) for _, command in note.triage] == [True] * 7 + [False] * 2


def test_a_host_is_a_place_that_things_happen_on(play: Play) -> None:
    (note,) = play(
        spec("apache2 > sh", "web_shell", host=True), spec("apache2 > sh > curl", "network", at="1s", host=True)
    )
    assert note.summary.startswith("On host node-1, apache2 ran ")
