"""How long pass-through waits for its receiver, on a clock that only waiting turns."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tenacity

from sidecar.delivery.pass_through import MAX_WAIT_SECONDS, PassThroughQueue


class Receiver:
    """Answers with the given statuses (0: closes) and `Retry-After`, then 200, but never to what contains `deadly`.

    `pauses` are what was waited between attempts.
    """

    def __init__(self, statuses: list[int], retry_after: float, deadly: bytes = b"no such alert") -> None:
        self.statuses, self.retry_after, self.deadly = statuses, retry_after, deadly
        self.pauses: list[float] = []

    async def post(self, body: bytes) -> int:
        status = self.statuses.pop(0) if self.statuses else 200
        if not status or self.deadly in body:
            raise ConnectionResetError
        return status

    def send(self, *_: object) -> bool:
        return False


def passed(monkeypatch: pytest.MonkeyPatch, receiver: Receiver, bodies: Sequence[bytes] = (b"{}",)) -> dict[str, int]:
    """How many of these alerts came to which outcome."""
    now = [0.0]

    async def sleep(seconds: float) -> None:
        receiver.pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("tenacity.time", SimpleNamespace(monotonic=lambda: now[0]))
    real = tenacity.AsyncRetrying.__init__

    def on_our_clock(self: tenacity.AsyncRetrying, **given: Any) -> None:
        real(self, **{**given, "sleep": sleep})

    monkeypatch.setattr(tenacity.AsyncRetrying, "__init__", on_our_clock)

    async def run() -> PassThroughQueue:
        queue = PassThroughQueue("http://127.0.0.1:9/", 10)
        queue._client = cast("Any", receiver)
        for body in bodies:
            queue.put(body)
        while queue.pending:
            await queue.work()
        return queue

    counts = asyncio.run(run()).counts
    return {outcome: counts[outcome] for outcome in ("sent", "rejected") if counts[outcome]}


@pytest.mark.parametrize("status", [429, 503])
def test_the_pause_that_a_receiver_asks_for_is_kept(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    receiver = Receiver([status, status, status], retry_after=30.0)

    assert passed(monkeypatch, receiver) == {"sent": 1}
    assert receiver.pauses
    assert all(pause >= 30.0 for pause in receiver.pauses)


def test_without_a_wish_the_pause_stays_short(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver([503] * 5, retry_after=0.0)

    assert passed(monkeypatch, receiver) == {"sent": 1}
    assert all(pause <= 5.0 for pause in receiver.pauses)


def test_a_receiver_that_asks_for_pauses_for_ever_is_given_up_after_five_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver = Receiver([429] * 1000, retry_after=60.0)

    assert passed(monkeypatch, receiver) == {"rejected": 1}
    assert MAX_WAIT_SECONDS - 61 <= sum(receiver.pauses) <= MAX_WAIT_SECONDS + 61


@pytest.mark.parametrize("failure", [500, 0])
def test_an_alert_that_nothing_can_be_compared_with_is_given_up_after_five_minutes_and_the_next_one_soon(
    monkeypatch: pytest.MonkeyPatch, failure: int
) -> None:
    receiver = Receiver([failure] * 1000, retry_after=0.0)

    assert passed(monkeypatch, receiver, [b"{}"] * 2) == {"rejected": 2}
    assert MAX_WAIT_SECONDS <= sum(receiver.pauses) <= MAX_WAIT_SECONDS + 60


@pytest.mark.parametrize("failure", [500, 0])
def test_an_outage_of_two_minutes_that_looks_like_a_fault_of_the_alert_loses_none(
    monkeypatch: pytest.MonkeyPatch, failure: int
) -> None:
    receiver = Receiver([failure] * 40, retry_after=0.0)

    assert passed(monkeypatch, receiver, [b"{}"] * 5) == {"sent": 5}


def test_alerts_of_one_rule_that_the_receiver_fails_on_are_told_by_one_of_another_rule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver = Receiver([], retry_after=0.0, deadly=b"bad")

    outcomes = passed(monkeypatch, receiver, bodies=[b'{"rule":"bad"}'] * 3 + [b'{"rule":"good"}'] * 5)
    assert outcomes == {"rejected": 3, "sent": 5}
    assert sum(receiver.pauses) < MAX_WAIT_SECONDS
