"""What is fuzzed: three ways in, each as a function of bytes that raises when a promise is broken.

`make fuzz` runs them under a coverage-guided fuzzer, `test_hostile_input.py` over the kept corpus. The promises: nothing
but the errors that callers expect leaves the code, each input is answered or counted under a reason, and none takes a
second.
"""

import asyncio
import contextlib
import io
from collections.abc import Callable
from typing import Any

import msgspec
from support.cost import cost

from sidecar.alerts.decode import MAX_BYTES
from sidecar.correlation.pipeline import Pipeline
from sidecar.errors import ConfigError
from sidecar.incidents import terminal
from sidecar.incidents.falco_event import to_json
from sidecar.model import ANOMALIES, REJECTIONS, Alert, Message
from sidecar.net.admission import Connections
from sidecar.net.http_server import OK, Limits, Request, Response, ServerProtocol
from sidecar.net.secret_path import SecretPath
from sidecar.rules.loading import SHIPPED, compiled, load
from sidecar.rules.spec import RuleFile
from sidecar.settings.display import to_yaml
from sidecar.settings.loading import load as load_settings
from sidecar.settings.schema import Settings
from sidecar.sinks.grpc import protobuf as messages
from sidecar.sources.grpc import take
from sidecar.yamlfile.typed import build, parse_yaml

RULES = load([SHIPPED / "correlation"])

KNOWN = "/a-secret-path-0123456789"

SECOND = 1000


class Transport(asyncio.Transport):
    """What a server protocol writes to; the peer is on loopback."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 5)})
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def _fresh() -> Pipeline:
    return Pipeline(RULES, lambda: 0.0, lambda: 1_795_489_388_000_000_000, _remembered)


def _remembered(_name: bytes, alert: Alert) -> None:
    """What the state file does with an alert: it must come back the same."""
    assert msgspec.json.decode(msgspec.json.encode(alert), type=Alert) == alert


_loop = asyncio.new_event_loop()


def _shown(messages: list[Message]) -> None:
    for message in messages:
        for text in (to_json(message).decode(), _printed(message)):
            assert text.replace("\n", "").isprintable(), ascii(text)


def _printed(message: Message) -> str:
    out = io.StringIO()
    terminal.show(message, out)
    return out.getvalue()


def _counted(pipeline: Pipeline, fed: Callable[[], list[Message]]) -> None:
    before, reasons = pipeline.received, sum(pipeline.reasons.values())
    messages = fed() + pipeline.flush()
    assert pipeline.received == before + 1
    assert set(pipeline.reasons) <= {*REJECTIONS, *ANOMALIES} - {"broken"}, pipeline.reasons
    assert reasons <= sum(pipeline.reasons.values())
    _shown(messages)


def json(data: bytes) -> None:
    """Any bodies of POSTs, one a line."""
    pipeline = _fresh()
    for body in data.split(b"\n")[:50]:
        _counted(pipeline, lambda body=body: pipeline.process_json(body)[1])  # type: ignore[misc]


def http(data: bytes) -> None:
    """Bytes as they come from a socket, in pieces as large as the first byte says; and the same as a POST's body."""
    _loop.run_until_complete(_spoken(data))
    json(data)


async def _spoken(data: bytes) -> None:
    pipeline, accepted = _fresh(), 0

    def heard(body: bytes) -> float:
        nonlocal accepted
        accepted += 1
        pipeline.process_json(body)
        return 0.0

    def answer(request: Request) -> Response:
        heard(request.body)
        return OK

    connections, transport = Connections(8, 8, lambda: 0.0), Transport()
    gate = SecretPath(KNOWN if data[:1] == b"\x01" else "")
    protocol = ServerProtocol(answer, Limits(MAX_BYTES, 5, 10), connections, gate, repeat_handler=heard)
    protocol.connection_made(transport)
    size = (data[0] if data else 0) % 64 * 64 or len(data) or 1
    for start in range(1, max(len(data), 2), size):
        if not transport.closed:
            protocol.data_received(data[start : start + size])
    answers = b"".join(transport.sent)
    refused = sum(connections.refused.values())
    assert answers.count(b"HTTP/1.1 200 OK") == accepted
    assert refused <= 1
    assert transport.closed or not refused
    protocol.connection_lost(None)
    assert len(connections) == 0


def protobuf(data: bytes) -> None:
    """Messages of Falco's gRPC output, apart by a line of four signs."""
    pipeline = _fresh()
    for message in data.split(b"\n####\n")[:50]:
        _counted(pipeline, lambda message=message: take(pipeline, [message]))  # type: ignore[misc]
        with contextlib.suppress(ValueError):
            messages.with_valid_text(message)


def files(data: bytes) -> None:
    """A rule file, and a settings file."""
    try:
        written = parse_yaml(data, "file")
    except ConfigError:
        return
    for use in (_as_rule, _as_settings, _as_variable):
        try:
            use(written)
        except ConfigError:
            continue


def _as_rule(written: Any) -> None:
    rule = compiled(build(RuleFile, written, "file"), "file")
    pipeline = Pipeline([rule], lambda: 0.0)
    for line in (SHIPPED.parent / "tests" / "data" / "stock_alerts.jsonl").read_bytes().splitlines()[:3]:
        pipeline.process_json(line)
    _shown(pipeline.flush())


def _as_settings(written: Any) -> None:
    settings = build(Settings, written, "file")
    assert parse_yaml(to_yaml(settings).encode(), "printed") is not None


def _as_variable(written: Any) -> None:
    load_settings(None, {"FALCO_CORRELATOR_RULES": str(written)[:1000]})


TARGETS: dict[str, Callable[[bytes], None]] = {"http": http, "protobuf": protobuf, "files": files}


def timed(target: Callable[[bytes], None], data: bytes) -> None:
    """Run a target; raises AssertionError if it took a second of this process."""
    took = cost(lambda: target(data), rounds=1)
    assert took < SECOND, f"took {took:.0f} ms"
