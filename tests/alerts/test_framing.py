"""Alerts in the shapes in which people have them: each holds the same alerts as Falco's own file."""

import json
from collections.abc import Callable, Sequence

import pytest
from conftest import DATA
from hypothesis import given
from hypothesis import strategies as st

from sidecar.alerts.framing import Unwrapper, alerts

STOCK = (DATA / "stock_alerts.jsonl").read_bytes().splitlines()[:7]


def docker(text: str, end: str = "\n") -> bytes:
    return json.dumps({"log": text + end, "stream": "stdout", "time": "2026-11-24T12:00:26.123456789Z"}).encode()


def pretty(line: bytes, indent: int = 2) -> list[bytes]:
    return json.dumps(json.loads(line), indent=indent).encode().splitlines()


SHAPES: dict[str, Callable[[bytes], list[bytes]]] = {
    "Falco's own": lambda line: [line],
    "with blank lines": lambda line: [b"", line, b"  "],
    "with the ends of lines of Windows": lambda line: [line + b"\r\n"],
    "after a byte order mark": lambda line: [b"\xef\xbb\xbf" + line],
    "CRI": lambda line: [b"2026-11-24T12:00:25.000000001Z stdout F " + line],
    "CRI, split": lambda line: [
        b"2026-11-24T12:00:25.000000001Z stdout P " + line[:90],
        b"2026-11-24T12:00:25.000000001Z stdout P " + line[90:200],
        b"2026-11-24T12:00:25.000000002Z stdout F " + line[200:],
    ],
    "Docker": lambda line: [docker(line.decode())],
    "Docker, split": lambda line: [docker(line[:90].decode(), ""), docker(line[90:].decode())],
    "journalctl": lambda line: [b"May 01 19:29:32 macmini2 falco[26888]: " + line],
    "journalctl -o short-iso": lambda line: [b"2026-05-01T19:29:32+0000 node-1 falco[26888]: " + line],
    "journalctl -o json": lambda line: [
        json.dumps({"_PID": "1", "MESSAGE": line.decode(), "SYSLOG_IDENTIFIER": "falco"}).encode()
    ],
    "journalctl -o json, not UTF-8": lambda line: [json.dumps({"MESSAGE": list(line), "_PID": "1"}).encode()],
    "kubectl logs --prefix": lambda line: [b"[pod/falco-x2x9k/falco] " + line],
    "kubectl logs --timestamps": lambda line: [b"2026-11-24T12:00:25.000000001Z " + line],
    "docker compose": lambda line: [b"falco-1  | " + line],
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_every_shape_gives_the_bytes_that_falco_wrote(shape: Callable[[bytes], list[bytes]]) -> None:
    assert list(alerts(line for alert in STOCK for line in shape(alert))) == STOCK


DOCUMENTS: dict[str, Callable[[Sequence[bytes]], list[bytes]]] = {
    "one after the other": lambda lines: [line for alert in lines for line in pretty(alert)],
    "an array": lambda lines: json.dumps([json.loads(line) for line in lines], indent=2).encode().splitlines(),
    "an array indented by tabs": lambda lines: (
        json.dumps([json.loads(line) for line in lines], indent="\t").encode().splitlines()
    ),
    "an array in one line": lambda lines: [json.dumps([json.loads(line) for line in lines]).encode()],
    "an array with a line each": lambda lines: [b"[", *(line + b"," for line in lines[:-1]), lines[-1], b"]"],
}


@pytest.mark.parametrize("shape", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_json_over_several_lines_and_arrays_give_each_alert_once(
    shape: Callable[[Sequence[bytes]], list[bytes]],
) -> None:
    found = [json.loads(alert) for alert in alerts(shape(STOCK))]

    assert found == [json.loads(line) for line in STOCK]


def test_a_document_without_an_end_is_one_piece() -> None:
    assert len(list(alerts(pretty(STOCK[0])[:-3]))) == 1


def test_an_alert_whose_command_looks_like_a_wrapper_is_left_as_it_is() -> None:
    line = json.dumps({"rule": "x", "log": "no\n", "MESSAGE": "no"}).encode()

    assert list(alerts([line, STOCK[0]])) == [line, STOCK[0]]


def test_a_line_of_text_that_holds_json_in_its_middle_is_left_as_it_is() -> None:
    line = b'03:07:40.535012431: Warning Sensitive file opened {"a": 1} by cat'

    assert list(alerts([line])) == [line]


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"{", b"[", b"}", b"]", b'{"log":""}', b"T stdout P x"])))
def test_whatever_the_lines_are_nothing_raises_and_an_alert_after_them_is_found(lines: list[bytes]) -> None:
    end = [b"}", b"]", b"T stdout F ", b'{"log":"\\n"}'] if b"{" not in [line.strip() for line in lines] else []
    found = list(alerts([*lines, *end, STOCK[0]]))

    assert end == [] or STOCK[0] in found


def test_a_line_that_continues_is_held_back_until_its_end_comes() -> None:
    unwrap = Unwrapper()

    assert unwrap(b"2026-11-24T12:00:25Z stdout P {") == b""
    assert unwrap(b"2026-11-24T12:00:25Z stdout F }") == b"{}"
    assert unwrap(STOCK[0]) == STOCK[0]
