"""Logs that a busy failure cannot flood."""

import logging

from conftest import Clock

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


def test_another_message_is_not_held_back(clock: Clock) -> None:
    limit = RateLimit(10, clock)

    assert [limit.filter(record(text)) for text in ("one", "two", "one")] == [True, True, False]
