"""Nothing that an attacker writes steers what shows it: no control, direction or invisible character, no live markup."""

import io
import json
import logging
import re
import unicodedata
from typing import Any

import pytest
from conftest import fed, spec
from support.injections import INJECTIONS

from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.incidents import terminal, view
from sidecar.incidents.falco_event import to_event
from sidecar.model import Message, Notification, Report, Where
from sidecar.rules.rule import CorrelationRule
from sidecar.service.logs import JsonFormatter
from sidecar.text import escape

MARKUP = re.compile(r"<[!@#]|<[a-z]+:|\]\(|@(?:here|channel|everyone|all)\b", re.IGNORECASE)

INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def raw(text: str) -> list[str]:
    """The characters of a text that are not to be in any output."""
    blank = "\u3164\uffa0\u115f\u2800\u034f\ufe0f\U000e0100\u17b4"
    return [ascii(c) for c in text if unicodedata.category(c) in INVISIBLE or c in blank]


def incident(rule: CorrelationRule, text: str) -> list[Notification]:
    """Notifications of an attack in which every text that a forger could choose is this one."""
    fields: dict[str, Any] = dict.fromkeys(
        (
            *(
                "proc.cmdline",
                "proc.name",
                "proc.pname",
                "proc.exepath",
                "container.name",
                "container.image.repository",
            ),
            *("container.image.tag", "k8s.ns.name", "k8s.pod.name", "user.name", "fd.name", "fd.sip", "evt.type"),
            *(f"proc.aname[{number}]" for number in range(1, 7)),
        ),
        text or "x",
    )
    fields["proc.pexepath"] = "/usr/sbin/nginx"
    story = [
        spec("nginx > sh", "web_shell", fields=fields),
        spec("nginx > sh > curl", "network", at="1s", fields=fields),
        spec("nginx > sh > cat", "credential", at="2s", fields=fields),
    ]
    bodies = []
    for body in alerts(rule, story):
        alert = json.loads(body)
        changes = {
            "hostname": text,
            "rule": text or "x",
            "output": text,
            "tags": [*alert["tags"], f"mitre_{text}", text],
        }
        bodies.append(json.dumps({**alert, **changes}).encode("utf-8", "surrogatepass"))
    return fed(Pipeline([rule], lambda: 0.0), bodies)


def strings(value: object) -> list[str]:
    """Every text in a JSON value, keys too."""
    if isinstance(value, dict):
        return [text for key, each in value.items() for text in (str(key), *strings(each))]
    if isinstance(value, list):
        return [text for each in value for text in strings(each)]
    return [value] if isinstance(value, str) else []


def messages(rule: CorrelationRule, text: str) -> list[Message]:
    """Both steps of an incident, and a report, in which every text is this one."""
    report = Report("Correlator under pressure", "medium", text, Where(*([text] * 6)), 1_795_489_388_000_000_000)
    return [*incident(rule, text), report]


def printed(message: Message) -> str:
    out = io.StringIO()
    terminal.show(message, out)
    terminal.summary([message], out)
    if isinstance(message, Notification):
        terminal.show_tree(view.from_notification(message), out)
    return out.getvalue()


def test_there_are_160_injections() -> None:
    assert len(set(INJECTIONS)) >= 160


def test_events_and_reports_show_it_and_are_not_steered(rule: CorrelationRule) -> None:
    for text in INJECTIONS:
        made = messages(rule, text)
        assert [message.severity for message in made] == ["medium", "critical", "medium"], ascii(text)
        for event in map(to_event, made):
            shown = strings(event)
            assert [raw(each) for each in shown if raw(each)] == [], ascii(text)
            assert [each for each in shown if MARKUP.search(each)] == [], ascii(text)
            assert "`" not in event["output"], ascii(text)


@pytest.mark.slow
def test_terminals_show_it_and_are_not_steered(rule: CorrelationRule) -> None:
    for text in INJECTIONS:
        for message in messages(rule, text):
            assert raw(printed(message).replace("\n", "")) == [], ascii(text)


def test_the_raw_text_is_what_is_kept(rule: CorrelationRule) -> None:
    for text in INJECTIONS:
        kept = incident(rule, text)[-1].timeline[0][0].cmdline
        assert kept == text[:512].encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def test_a_log_line_is_one_line_of_ascii_json() -> None:
    for text in INJECTIONS:
        record = logging.makeLogRecord({"msg": text, "levelname": "ERROR", "fact": text, "many": [text, {"x": text}]})
        line = JsonFormatter().format(record)

        assert line.isascii()
        assert line.isprintable()
        assert json.loads(line)["fact"] == json.loads(line)["message"] == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mysql db <dump.sql && cat <in >out 2>&1", "mysql db <dump.sql && cat <in >out 2>&1"),
        ("wget http://203.0.113.9/k -O /tmp/k", "wget http://203.0.113.9/k -O /tmp/k"),
        ("ssh deploy@10.0.0.5", "ssh deploy@10.0.0.5"),
        ("Grüße 日本語 😀", "Grüße 日本語 😀"),
        ("a\x1bb\u202ec", "a\\x1bb\\u202ec"),
        ("<!channel> [x](http://y) @here", "\\x3c!channel> [x]\\x28http://y) \\x40here"),
    ],
)
def test_what_is_harmless_is_shown_as_it_is(text: str, shown: str) -> None:
    assert escape.event(text) == shown
