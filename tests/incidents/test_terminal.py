"""What a person sees: an incident in full, and its process tree."""

import io

import pytest
from conftest import Play, spec

from sidecar.incidents import view
from sidecar.incidents.falco_event import MAX_TEXT_BYTES, timeline, to_event
from sidecar.incidents.terminal import MAX_DECLINED, show, show_declined, show_tree
from sidecar.model import Alert, Fields, Notification, Report, Where


@pytest.fixture
def note(play: Play) -> Notification:
    return play(
        spec("tini > nginx > nginx#1 > sh", "web_shell"),
        spec("tini > nginx > nginx#1 > sh > curl", "network", at="1s"),
        spec("tini > nginx > nginx#2 > cat", "credential", at="2s"),
    )[-1]


def printed(show_it: object, note: object) -> str:
    out = io.StringIO()
    show_it(note, out)  # type: ignore[operator]
    return out.getvalue()


def test_an_incident_is_shown_with_severity_place_timeline_and_next_steps(note: Notification) -> None:
    text = printed(show, note)

    for words in (
        "CRITICAL",
        "(was medium)",
        "pod shop/app-7d9f",
        "nginx > nginx > sh > curl",
        "9.",
        "kubectl -n shop",
    ):
        assert words in text


def test_declined_detections_are_listed_with_their_reasons_and_escaped() -> None:
    alert = Alert(1, "h", "Network utility", (), Fields(cmdline="curl \x1b[2Jx"))
    text = printed(show_declined, [(alert, "own_script")] * (MAX_DECLINED + 1))

    assert "Network utility: curl \\x1b[2Jx" in text
    assert "own_script: A script of the image" in " ".join(text.split())
    assert "and 1 more" in text


def test_the_tree_has_the_anchor_above_and_each_detection_on_its_process(note: Notification) -> None:
    (root,) = view.from_notification(note).processes
    first, second = root.started

    assert (
        root.name,
        [node.name for node in first.started],
        [node.name for node in second.started],
    ) == ("nginx", ["sh"], ["cat"])
    assert [event.groups for event in first.started[0].events] == [["web_shell"]]
    assert [event.join for event in second.started[0].events] == ["lineage"]


def test_the_tree_is_drawn(note: Notification) -> None:
    text = printed(show_tree, view.from_notification(note))

    for words in ("nginx", "└── ", "network by lineage: curl", "credential by lineage: cat"):
        assert words in text


def test_an_orphan_stands_in_a_tree_of_its_own(play: Play) -> None:
    (note,) = play(
        spec("tini > nginx > sh", "web_shell"), spec("tini > curl", "network", at="1s", fields={"proc.sid": 77})
    )

    assert [root.name for root in view.from_notification(note).processes] == ["nginx", "containerd-shim"]


def test_a_long_timeline_says_how_much_it_leaves_out(play: Play) -> None:
    shells = [spec(f"nginx > nginx#{n} > sh", "web_shell", at=f"{n}s") for n in range(40)]
    note = play(*shells, spec("nginx > sh > curl", "network", at="50s"))[-1]

    assert "and 21 more" in printed(show, note)
    assert "more ..." in timeline(note, MAX_TEXT_BYTES)
    assert len(timeline(note, MAX_TEXT_BYTES).encode()) <= MAX_TEXT_BYTES
    assert timeline(note, 12) == "41 moments"


def test_an_attackers_command_cannot_steer_the_terminal(play: Play) -> None:
    (note,) = play(
        spec("nginx > sh", "web_shell", fields={"proc.cmdline": "sh -c \x1b]0;owned\x07 [bold]x[/bold]"}),
        spec("nginx > sh > curl", "network", at="1s"),
    )
    text = printed(show, note) + printed(show_tree, view.from_notification(note))

    assert "\x1b" not in text
    assert "[bold]x[/bold]" in text


def test_a_report_is_shown_in_a_line_and_sent_as_a_falco_event() -> None:
    where = Where("node-1", "abc", "app", "", "shop", "app-1")
    report = Report("Correlator under pressure", "medium", "205 contexts", where, 1_795_489_388_000_000_001)
    event = to_event(report)

    assert printed(show, report) == "medium Correlator under pressure: 205 contexts\n"
    assert (
        event["priority"],
        event["rule"],
        event["output_fields"]["correlator.report"],
    ) == ("Warning", "Correlator under pressure", "205 contexts")
    assert "incident.id" not in event["output_fields"]
