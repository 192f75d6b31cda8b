"""How long pass-through waits for its receiver, on a clock that only waiting turns."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tenacity

from sidecar.delivery.pass_through import MAX_WAIT_SECONDS, PassThroughQueue


class Receiver:
    """Answers with the given statuses and `Retry-After`, then 200. `pauses` are what was waited between attempts."""

    def __init__(self, statuses: list[int], retry_after: float) -> None:
        self.statuses, self.retry_after = statuses, retry_after
        self.pauses: list[float] = []

    async def post(self, _: bytes) -> int:
        return self.statuses.pop(0) if self.statuses else 200


def passed(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> str:
    """The outcome of one alert."""
    now = [0.0]

    async def sleep(seconds: float) -> None:
        receiver.pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("tenacity.time", SimpleNamespace(monotonic=lambda: now[0]))
    real = tenacity.AsyncRetrying.__init__

    def on_our_clock(self: tenacity.AsyncRetrying, **given: Any) -> None:
        real(self, **{**given, "sleep": sleep})

    monkeypatch.setattr(tenacity.AsyncRetrying, "__init__", on_our_clock)

    async def run() -> str:
        queue = PassThroughQueue("http://127.0.0.1:9/", 10)
        queue._client = cast("Any", receiver)
        return await queue.carry(b"{}")

    return asyncio.run(run())


@pytest.mark.parametrize("status", [429, 503])
def test_the_pause_that_a_receiver_asks_for_is_kept(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    receiver = Receiver([status, status, status], retry_after=30.0)

    assert passed(monkeypatch, receiver) == "sent"
    assert receiver.pauses
    assert all(pause >= 30.0 for pause in receiver.pauses)


def test_without_a_wish_the_pause_stays_short(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver([503] * 5, retry_after=0.0)

    assert passed(monkeypatch, receiver) == "sent"
    assert all(pause <= 5.0 for pause in receiver.pauses)


def test_a_receiver_that_asks_for_pauses_for_ever_is_given_up_after_five_minutes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver = Receiver([429] * 1000, retry_after=60.0)

    assert passed(monkeypatch, receiver) == "rejected"
    assert MAX_WAIT_SECONDS - 61 <= sum(receiver.pauses) <= MAX_WAIT_SECONDS + 61
