"""A strict Falcosidekick: what its input handler takes, refuses and makes of an event.

Recorded answers pin it, and the real one where it is installed (`sinks/test_real_falcosidekick.py`).
"""

import codecs
import json
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PRIORITIES = {
    p.lower(): p for p in ("Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Informational", "Debug")
} | {"info": "Informational"}
SURROGATE = re.compile("[\ud800-\udfff]")
TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)")
TEXTS = ("output", "rule", "source", "hostname", "uuid")
NOT_EMPTY_ABSENT = ("tags", "hostname")
MOST, LONGEST = 4096, 512


class LongNumber(str):
    """A number that is longer than Python takes; Falcosidekick keeps the digits of any."""

    __slots__ = ()


def whole_number(text: str) -> int | LongNumber:
    """A whole number of JSON."""
    return int(text) if len(text) < 4000 else LongNumber(text)


def _each_byte(error: UnicodeError) -> tuple[str, int]:
    """Go writes a replacement character for each byte that is no UTF-8."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("go", _each_byte)


class Refused(Exception):
    """Answered 400."""


class Panicked(Exception):
    """The handler died; the client sees the connection close."""


def handle(body: bytes) -> dict[str, Any]:
    """The event as it would be forwarded; raises Refused or Panicked."""
    event = _decoded(body)
    for name in TEXTS:
        if type(event.get(name)) not in (str, type(None)):
            raise Refused(name)
    tags = event.get("tags")
    tags = [] if tags is None else tags
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise Refused("tags")
    priority = event.get("priority") or ""
    if not isinstance(priority, str) or priority.lower() not in PRIORITIES:
        raise Refused("priority")
    fields = event.get("output_fields")
    if not isinstance(fields, dict) or not fields or not event.get("rule"):
        raise Refused("rule or output_fields")
    time = _time(event.get("time"))
    for name in ("k8s.ns.name", "k8s.pod.name"):
        if not isinstance(fields.get(name), str | None):
            raise Panicked(name)
    source = "internal" if event["rule"] == "Test rule" else event.get("source") or "syscalls"
    forwarded = {
        "uuid": str(uuid.uuid4()),
        "output": event.get("output") or "",
        "priority": PRIORITIES[priority.lower()],
        "rule": event["rule"],
        "time": time,
        "output_fields": fields,
        "source": source,
        "tags": sorted(tags),
        "hostname": event.get("hostname") or "",
    }
    return _cut({key: value for key, value in forwarded.items() if value or key not in NOT_EMPTY_ABSENT})


def _decoded(body: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise Refused(constant)

    try:
        text = body.decode("utf-8", "go").lstrip()
        event, _ = json.JSONDecoder(parse_constant=refuse, parse_int=whole_number).raw_decode(text)
    except (ValueError, RecursionError):  # Go's decoder refuses more than 10,000 levels
        raise Refused("JSON") from None
    if not isinstance(event, dict):
        raise Refused("not an object")
    return {key.lower(): _without_surrogates(value) for key, value in event.items()}


def _without_surrogates(value: Any) -> Any:
    if type(value) is str:
        return SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(name): _without_surrogates(each) for name, each in value.items()}
    return [_without_surrogates(each) for each in value] if isinstance(value, list) else value


def _time(value: object) -> str:
    found = TIME.fullmatch(value) if isinstance(value, str) else None
    if not found or value == "0001-01-01T00:00:00Z":
        raise Refused("time")
    moment = datetime.fromisoformat(found[1] + found[3].replace("Z", "+00:00")).astimezone(UTC)
    fraction = (found[2] or "")[:9].rstrip("0")
    return f"{moment:%Y-%m-%dT%H:%M:%S}" + (f".{fraction}" if fraction else "") + "Z"


def _cut(event: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(event, separators=(",", ":"))) <= MOST:
        return event
    for name, value in event["output_fields"].items():
        if type(value) is str and len(value) > LONGEST:
            short = value[: LONGEST - 5] + "[...]"
            event["output"] = event["output"].replace(value, short)
            event["output_fields"][name] = short
    return event


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that was killed is no news."""


class Falcosidekick:
    """Serves on loopback. `events` are the forwarded events, `raw` the bodies and `keys` the idempotency keys.

    `behave` is called with the number of each request, from 0, and may return a status to answer instead.
    """

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self.keys: list[str | None] = []
        self.refused = 0
        self.requests = 0
        self.arrived = threading.Condition()
        self.retry_after = ""
        self.behave: Any = lambda _number: None
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def wait_for(self, count: int, timeout: float = 60.0) -> list[dict[str, Any]]:
        """The events once there are `count` of them, or whatever there is after `timeout` seconds."""
        with self.arrived:
            self.arrived.wait_for(lambda: len(self.events) >= count, timeout)
            return list(self.events)

    def take(self, body: bytes, key: str | None) -> int:
        """Answer one request; raises Panicked."""
        with self.arrived:
            number, self.requests = self.requests, self.requests + 1
            status = self.behave(number)
            if status is not None:
                return int(status)
            try:
                event = handle(body)
            except Refused:
                self.refused += 1
                self.raw.append(body)
                return 400
            self.raw.append(body)
            self.keys.append(key)
            self.events.append(event)
            self.arrived.notify_all()
            return 200

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.05)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(fake: Falcosidekick) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                status = fake.take(body, self.headers.get("Idempotency-Key"))
            except Panicked:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if fake.retry_after and status >= 300:
                self.send_header("Retry-After", fake.retry_after)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def running() -> Iterator[Falcosidekick]:
    fake = Falcosidekick()
    thread = threading.Thread(target=fake.serve, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.close()
        thread.join()
