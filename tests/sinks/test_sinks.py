"""Every sink passes the same suite: it takes a notification, is tried again when it fails, and keeps the order.

Covers: `sinks.factory`, `sinks.file`, `sinks.http`, `sinks.stdout`, `sinks.webhook`, `incidents.falco_event`.
"""

import asyncio
import io
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Play, spec
from support.falcosidekick import Falcosidekick

from sidecar.delivery.sink_queue import Delivery
from sidecar.errors import Refused, SinkError
from sidecar.incidents.falco_event import to_event, to_json
from sidecar.model import Notification, Outgoing, delivery_key
from sidecar.settings.sinks import FalcosidekickSinkSettings, HttpSinkSettings, WebhookSinkSettings
from sidecar.sinks import Sink, falcosidekick, webhook
from sidecar.sinks.file import FileSink
from sidecar.sinks.http import HttpSink
from sidecar.sinks.stdout import StdoutSink
from sidecar.yamlfile.typed import build


@pytest.fixture
def notes(play: Play) -> list[Notification]:
    """Two notifications of one incident: medium, then critical."""
    return play(
        spec("nginx > sh", "web_shell"),
        spec("nginx > sh > curl", "network", at="1s"),
        spec("nginx > sh > cat", "credential", at="2s"),
    )


class Flaky:
    """A sink that fails as told before it takes anything."""

    name = "flaky"

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.taken: list[str] = []
        self.closed = False

    async def send(self, out: Outgoing) -> None:
        if self.failures:
            raise self.failures.pop(0)
        assert out.message
        self.taken.append(out.message.case)

    def close(self) -> None:
        self.closed = True


def outgoing(note: Notification) -> Outgoing:
    return Outgoing(delivery_key(note, "test"), to_json(note), note)


async def send(sink: Sink, note: Notification) -> None:
    """Send and close, as the service does when it stops."""
    try:
        await sink.send(outgoing(note))
    finally:
        sink.close()
        await asyncio.sleep(0)


async def deliver(sink: Flaky, notes: list[Notification], room: int = 10) -> Delivery:
    delivery = Delivery(sink, room)
    for note in notes:
        delivery.put(outgoing(note))
    delivery.start()
    await delivery.drained()
    await delivery.stop(1)
    return delivery


def test_stdout_writes_one_json_line_each(notes: list[Notification]) -> None:
    out = io.StringIO()
    for note in notes:
        asyncio.run(StdoutSink("json", out).send(outgoing(note)))

    assert [to_event(note) for note in notes] == [json.loads(line) for line in out.getvalue().splitlines()]


def test_stdout_writes_text_for_people(notes: list[Notification]) -> None:
    out = io.StringIO()
    asyncio.run(StdoutSink("text", out).send(outgoing(notes[1])))

    for words in ("CRITICAL", "Full Web Application Compromise", "pod shop/app-7d9f", "nginx > sh > cat", "Next steps"):
        assert words in out.getvalue()


def test_a_closed_stdout_is_a_sink_error(notes: list[Notification]) -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(32, "Broken pipe")

    with pytest.raises(SinkError, match="Broken pipe"):
        asyncio.run(StdoutSink("json", Closed()).send(outgoing(notes[0])))


def test_the_file_is_appended_to_and_may_be_rotated_away(notes: list[Notification], tmp_path: Path) -> None:
    path = tmp_path / "incidents.jsonl"
    sink = FileSink(str(path))
    asyncio.run(sink.send(outgoing(notes[0])))
    path.rename(tmp_path / "incidents.jsonl.1")
    asyncio.run(sink.send(outgoing(notes[1])))

    assert notes[1].case == json.loads(path.read_text())["rule"]


def test_a_line_that_was_cut_short_spoils_no_other(notes: list[Notification], tmp_path: Path) -> None:
    path = tmp_path / "incidents.jsonl"
    path.write_bytes(b'{"rule":"Full Web App')
    asyncio.run(FileSink(str(path)).send(outgoing(notes[0])))
    asyncio.run(FileSink(str(path)).send(outgoing(notes[1])))
    torn, *whole = path.read_text().splitlines()

    assert torn == '{"rule":"Full Web App'
    assert [json.loads(line)["rule"] for line in whole] == [note.case for note in notes[:2]]


def test_a_file_that_cannot_be_written_is_a_sink_error(notes: list[Notification], tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="No such file or directory"):
        asyncio.run(FileSink(str(tmp_path / "missing" / "x")).send(outgoing(notes[0])))


def test_a_sink_that_fails_is_tried_again_until_it_takes_and_the_order_is_kept(notes: list[Notification]) -> None:
    flaky = Flaky(SinkError("busy"), SinkError("busy"))
    delivery = asyncio.run(deliver(flaky, notes))

    assert [note.case for note in notes] == flaky.taken
    assert dict(delivery.counts) == {"sent": 2, "failed": 2}
    assert flaky.closed


def test_a_notification_that_is_refused_for_good_does_not_hold_up_the_next(notes: list[Notification]) -> None:
    flaky = Flaky(Refused("400"))
    delivery = asyncio.run(deliver(flaky, notes))

    assert [notes[1].case] == flaky.taken
    assert dict(delivery.counts) == {"refused": 1, "sent": 1}


def test_beyond_its_room_a_queue_drops_the_oldest_and_counts(notes: list[Notification]) -> None:
    delivery = asyncio.run(deliver(flaky := Flaky(), notes, room=1))

    assert [notes[1].case] == flaky.taken
    assert dict(delivery.counts) == {"dropped": 1, "sent": 1}


HTTP_SINKS: list[Callable[[str], Sink]] = [
    lambda url: falcosidekick.make_sink(FalcosidekickSinkSettings(url=url)),
    lambda url: webhook.make_sink(WebhookSinkSettings(url=url, headers={"Authorization": "Bearer x"})),
]


@pytest.mark.slow
@pytest.mark.parametrize("make", HTTP_SINKS, ids=["falcosidekick", "webhook"])
def test_an_http_sink_posts_the_event_with_its_key(
    make: Callable[[str], Sink], notes: list[Notification], sidekick: Falcosidekick
) -> None:
    asyncio.run(send(make(sidekick.url), notes[0]))

    assert [to_event(notes[0])] == [json.loads(body) for body in sidekick.raw]
    assert (sidekick.keys[0] or "").startswith(f"{notes[0].incident}:medium:")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "seconds"),
    [("7", 7.0), ("86400", 300.0), ("Fri, 31 Dec 2027 23:59:59 GMT", 0.0), ("-1", 0.0), ("9" * 400, 0.0), ("", 0.0)],
)
def test_a_receiver_may_ask_for_a_pause_within_bounds(
    notes: list[Notification], sidekick: Falcosidekick, asked: str, seconds: float
) -> None:
    sidekick.behave, sidekick.retry_after = (lambda _: 503), asked
    with pytest.raises(SinkError) as failed:
        asyncio.run(send(falcosidekick.make_sink(FalcosidekickSinkSettings(url=sidekick.url)), notes[0]))

    assert failed.value.retry_after == seconds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "error"), [(400, Refused), (404, Refused), (302, SinkError), (429, SinkError), (500, SinkError)]
)
def test_an_answer_decides_whether_it_is_tried_again(
    notes: list[Notification], sidekick: Falcosidekick, status: int, error: type[Exception]
) -> None:
    sidekick.behave = lambda _: status
    with pytest.raises(error) as raised:
        asyncio.run(send(falcosidekick.make_sink(FalcosidekickSinkSettings(url=sidekick.url)), notes[0]))

    assert error is raised.type


@pytest.mark.slow
def test_nobody_listening_is_a_sink_error(notes: list[Notification]) -> None:
    with pytest.raises(SinkError, match="falcosidekick: "):
        asyncio.run(send(falcosidekick.make_sink(FalcosidekickSinkSettings(url="http://127.0.0.1:9/")), notes[0]))


@pytest.mark.slow
def test_no_answer_in_time_is_a_sink_error(notes: list[Notification]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(SinkError, match="no response in time"):
            asyncio.run(
                send(
                    HttpSink("falcosidekick", build(HttpSinkSettings, {"url": url, "timeout": "100ms"}, "test")),
                    notes[0],
                )
            )
