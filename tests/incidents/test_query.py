"""What may be asked of the list: each mistake is answered with what is right."""

import pytest

from sidecar.incidents.query import PARAMETERS, QueryError, is_pretty, parse
from sidecar.storage.archive import IncidentFilter

HOUR = 3_600_000_000_000


def test_nothing_asked_is_the_newest_fifty() -> None:
    assert parse("", 0) == IncidentFilter() == parse("state=&q=&since=&limit=&severity=", 0)


def test_everything_can_be_asked_at_once() -> None:
    text = (
        "severity=critical&severity=high,low&state=open&q=shop%2Fweb&since=2h&sort=severity&order=asc&limit=9&offset=18"
    )

    assert parse(text, 5 * HOUR) == IncidentFilter(
        frozenset(("critical", "high", "low")), "open", "shop/web", 3 * HOUR, "severity", True, 9, 18
    )


def test_a_time_is_given_as_such_or_as_how_long_ago_it_is() -> None:
    wanted = parse("since=1970-01-01T02:00:00%2B01:00&until=1h", 5 * HOUR)

    assert (wanted.since, wanted.until) == (HOUR, 4 * HOUR)


@pytest.mark.parametrize("since", ["9999999h", "999999999w", "0001-01-01T00:00:00Z"])
def test_longer_ago_than_time_itself_is_any_time(since: str) -> None:
    assert parse(f"since={since}", 5 * HOUR).since == 1


@pytest.mark.parametrize(
    ("text", "pretty"), [("", False), ("pretty", True), ("pretty=true", True), ("pretty=false", False)]
)
def test_json_is_pretty_on_request(text: str, pretty: bool) -> None:
    assert is_pretty(text) is pretty


@pytest.mark.parametrize("text", ["pretty=null", "pretty=true&pretty=true"])
def test_a_wrong_pretty_is_told(text: str) -> None:
    with pytest.raises(QueryError):
        is_pretty(text)


def test_a_time_far_ahead_fits_the_database() -> None:
    assert parse("until=9999-12-31T23:59:59Z", 0).until == 2**63 - 1


def test_each_kind_of_thing_has_a_parameter() -> None:
    text = "address=203.0.113.9&image=php&command=curl&technique=T1059&user=www-data&rule=shell&namespace=shop"

    assert dict(parse(text, 0).terms) == {
        "namespace": "shop",
        "address": "203.0.113.9",
        "image": "php",
        "command": "curl",
        "technique": "T1059",
        "user": "www-data",
        "rule": "shell",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "page=2",
            f"unknown parameter 'page'; known are {', '.join(PARAMETERS)}",
        ),
        ("since=2026-11-24T03:00", "since: expected a time such as 2026-11-24T03:00:00Z, got '2026-11-24T03:00'"),
        ("until=2026-99-24", "until: expected a time such as 2026-11-24T03:00:00Z, got '2026-99-24'"),
        ("severity=worst", "severity: expected critical or high or medium or low, got 'worst'"),
        ("state=new", "state: expected open or closed, got 'new'"),
        ("sort=id;drop", "sort: expected last or first or severity or count, got 'id;drop'"),
        ("limit=0", "limit: expected a number from 1 to 200, got '0'"),
        ("limit=201", "limit: expected a number from 1 to 200, got '201'"),
        ("limit=%D9%A3", "limit: expected a number from 1 to 200, got '\u0663'"),
        ("offset=-1", "offset: expected a number from 0 to 1000000, got '-1'"),
        ("since=yesterday", "since: expected a duration such as 500ms, 5s, 15m, 24h or 7d, got 'yesterday'"),
        ("state=open&state=closed", "state: given 2 times"),
        ("q=" + "x" * 201, "q: at most 200 characters"),
        ("&".join("q=x" for _ in range(50)), "more than 40 parameters"),
    ],
)
def test_a_mistake_is_told(text: str, message: str) -> None:
    with pytest.raises(QueryError) as error:
        parse(text, 0)

    assert str(error.value) == message
