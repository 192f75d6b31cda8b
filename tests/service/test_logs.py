"""Logs that a busy failure cannot flood."""

import json
import logging

import pytest
from conftest import Clock

from sidecar.service import logs
from sidecar.service.logs import RateLimit


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("asyncio", logging.ERROR, "", 0, text, (), None)


def test_a_message_that_repeats_is_logged_once_in_ten_seconds(clock: Clock) -> None:
    limit = RateLimit(10, clock)
    passed = [limit.filter(record("socket.accept() out of system resource\nsocket: 7")) for _ in range(1000)]

    assert passed == [True] + [False] * 999


def test_the_next_one_says_how_many_were_suppressed(clock: Clock) -> None:
    limit = RateLimit(10, clock)
    limit.filter(record("x"))
    limit.filter(record("x"))
    clock.now = 10.0
    again = record("x")
    limit.filter(again)

    assert again.__dict__["suppressed"] == 1


def test_a_burst_passes_and_what_comes_beyond_it_is_counted(clock: Clock) -> None:
    limit = RateLimit(10, clock, burst=20)
    passed = sum(limit.filter(record("a kept alert could not be replayed")) for _ in range(100_000))
    clock.now = 10.0
    again = record("a kept alert could not be replayed")
    limit.filter(again)

    assert passed == 20
    assert again.__dict__["suppressed"] == 99_980


def test_the_log_of_a_service_is_limited(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("info")
    for _ in range(1000):
        logging.getLogger("sidecar.test").warning("a row is damaged")
    lines = capsys.readouterr().err.splitlines()
    logging.basicConfig(force=True)

    assert len(lines) == 20


def test_a_terminal_gets_lines_for_people_and_everything_else_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for is_terminal in (True, False):
        monkeypatch.setattr("sys.stderr.isatty", lambda is_terminal=is_terminal: is_terminal)
        logs.setup("info")
        logging.getLogger("sidecar.test").info("ready", extra={"pages": "http://127.0.0.1:2812/", "odd": "a\x1b[2J"})
    words, line = capsys.readouterr().err.splitlines()
    logging.basicConfig(force=True)

    assert words[8:] == "  info     ready  pages=http://127.0.0.1:2812/  odd=a\\x1b[2J"
    assert json.loads(line)["message"] == "ready"


def test_another_message_is_not_held_back(clock: Clock) -> None:
    limit = RateLimit(10, clock)

    assert [limit.filter(record(text)) for text in ("one", "two", "one")] == [True, True, False]
