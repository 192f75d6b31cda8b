"""The order of deliveries, and what becomes of a message whose sink fails."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from conftest import Clock
from hypothesis import given
from hypothesis import strategies as st

from sidecar.delivery.schedule import Pending, Schedule
from sidecar.delivery.sink_queue import MAX_PAUSE_SECONDS, Delivery
from sidecar.errors import SinkError
from sidecar.model import Outgoing


class Picky:
    """A sink that fails for some keys, as often as it is told; `attempts` are keys and times."""

    name = "picky"

    def __init__(self, clock: Clock, failures: dict[str, list[Exception]]) -> None:
        self.clock = clock
        self.failures = failures
        self.accepted: list[str] = []
        self.attempts: list[tuple[str, float]] = []

    async def send(self, out: Outgoing) -> None:
        self.attempts.append((out.key, self.clock.now))
        if self.failures.get(out.key):
            raise self.failures[out.key].pop(0)
        self.accepted.append(out.key)

    def close(self) -> None:
        pass


def delivered(keys: Sequence[str], failures: dict[str, list[Exception]] | None = None, attempts: int = 0) -> Picky:
    """What a sink saw of these keys (`container/incident:severity`)."""

    async def run() -> Picky:
        clock = Clock()

        async def sleep(seconds: float) -> None:
            clock.now += max(seconds, 0.001)

        sink = Picky(clock, failures or {})
        delivery = Delivery(sink, 100, clock, sleep)
        for key in keys:
            delivery.put(Outgoing(f"{key}:picky", b"", place=key.partition("/")[0]))
        while delivery.pending and not 0 < attempts <= len(sink.attempts):
            await delivery.work()
        return sink

    return asyncio.run(run())


def test_the_pause_that_a_receiver_asks_for_is_kept() -> None:
    sink = delivered(["c/a:medium", "c/b:medium"], {"c/a:medium:picky": [SinkError("429", retry_after=60.0)]})
    first, second = (time for _, time in sink.attempts[:2])

    assert second - first >= 60


def names(keys: Sequence[str]) -> list[str]:
    return [key.removesuffix(":picky") for key in keys]


def test_incidents_with_a_critical_step_go_first_with_their_earlier_steps() -> None:
    sent = delivered(["a/1:medium", "b/2:medium", "c/3:high", "b/2:critical"]).accepted

    assert names(sent) == ["b/2:medium", "b/2:critical", "a/1:medium", "c/3:high"]


def test_containers_take_turns() -> None:
    sent = delivered([*(f"loud/{number}:medium" for number in range(5)), "quiet/9:medium"]).accepted

    assert names(sent)[:2] == ["loud/0:medium", "quiet/9:medium"]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_the_steps_of_an_incident_stay_in_order_and_nothing_is_lost(steps: list[tuple[int, int]]) -> None:
    schedule, numbers = Schedule(), dict.fromkeys(range(4), 0)
    added = []
    for incident, _ in steps:
        if numbers[incident] == 3:
            continue
        severity = ("medium", "high", "critical")[numbers[incident]]
        numbers[incident] += 1
        added.append(f"{incident}:{severity}:s")
        schedule.add(Pending(added[-1], None, f"c{incident % 2}", since=0.0, is_stored=True))
    taken = []
    while (item := schedule.next(0.0)) is not None:
        taken.append(item.key)
        schedule.remove(item)

    assert sorted(taken) == sorted(added)
    for incident in range(4):
        assert [key for key in taken if key[0] == str(incident)] == [key for key in added if key[0] == str(incident)]


def test_a_bug_in_a_sink_costs_an_attempt_and_not_the_notification() -> None:
    sink = delivered(["a/1:medium"], {"a/1:medium:picky": [RuntimeError("ssl is not available"), KeyError()]})

    assert names(sink.accepted) == ["a/1:medium"]


def test_a_message_that_always_fails_holds_up_no_other_and_is_tried_only_every_ten_seconds() -> None:
    always: dict[str, list[Exception]] = {"a/1:medium:picky": [SinkError("500")] * 100}
    sink = delivered(["a/1:medium", "b/2:medium"], always, attempts=20)
    times = [time for key, time in sink.attempts if key.startswith("a/1")]

    assert names(sink.accepted) == ["b/2:medium"]
    assert all(later - earlier > MAX_PAUSE_SECONDS - 0.001 for earlier, later in pairwise(times[4:]))


def test_between_two_attempts_at_a_message_there_is_always_a_pause() -> None:
    sink = delivered(["a/1:medium"], {"a/1:medium:picky": [SinkError("503")] * 30})
    times = [time for _, time in sink.attempts]

    assert all(later - earlier >= 0.1 for earlier, later in pairwise(times))


def test_a_sink_that_is_away_is_logged_once_a_minute_and_when_it_answers_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    delivered(["c/a:high"], {"c/a:high:picky": [SinkError("refused", retry_after=15.0)] * 6})
    lines = [record for record in caplog.records if record.name == "sidecar.delivery.sink_queue"]

    assert [(record.message, record.__dict__.get("attempts")) for record in lines] == [
        ("sink did not accept a notification, trying again", 1),
        ("sink did not accept a notification, trying again", 5),
        ("sink answers again", None),
    ]
