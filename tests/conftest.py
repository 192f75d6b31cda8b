"""What all tests share: the shipped rules, stories in short form, and a service with its peers on loopback."""

import asyncio
import http.client
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from support import falcosidekick
from support.rules import RULES, WEB_RCE

from sidecar.cli.testing.stories import alerts
from sidecar.correlation.pipeline import Pipeline
from sidecar.expectations import loading
from sidecar.expectations.entries import Expectations
from sidecar.model import Message, Notification
from sidecar.rules.rule import CorrelationRule
from sidecar.rules.spec import AlertSpec
from sidecar.service.restore import make_state
from sidecar.service.service import Service
from sidecar.service.worker import SHIPPED_EXPECTATIONS
from sidecar.settings.schema import Settings
from sidecar.sinks.factory import make_sinks
from sidecar.yamlfile.typed import Duration, build

# CI tries the same examples each time, so that it fails for a change and never by chance; people's machines explore.
IN_CI = bool(os.environ.get("CI"))
hypothesis.settings.register_profile("fast", max_examples=25, deadline=None, derandomize=IN_CI)
hypothesis.settings.register_profile("thorough", max_examples=500, deadline=None, derandomize=IN_CI)
hypothesis.settings.load_profile("thorough" if os.environ.get("CI") else "fast")

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def rules() -> list[CorrelationRule]:
    return RULES


@pytest.fixture
def rule() -> CorrelationRule:
    return WEB_RCE


class Clock:
    """A clock that a test turns by hand, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pipeline(rules: list[CorrelationRule], clock: Clock) -> Pipeline:
    return Pipeline(rules, clock)


def spec(process: str, *groups: str, at: str = "0s", **more: Any) -> AlertSpec:
    """One alert of a story: `spec("apache2 > sh", "web_shell", at="2s")`."""
    return AlertSpec(process=process, detect=list(groups), at=Duration.parse(at), **more)


def fed(pipeline: Pipeline, bodies: Iterable[bytes]) -> list[Notification]:
    """Feed alerts, and give the notifications that came of them."""
    messages = [message for body in bodies for message in pipeline.process_json(body)[1]] + pipeline.flush()
    return [message for message in messages if isinstance(message, Notification)]


Play = Callable[..., list[Notification]]


@pytest.fixture
def play(pipeline: Pipeline, rule: CorrelationRule) -> Play:
    """Plays a story into the test's pipeline and gives the notifications."""

    return lambda *specs: fed(pipeline, alerts(rule, specs))


def cases(notes: Sequence[Message]) -> list[tuple[str, str]]:
    """Severity and case of each notification."""
    return [(note.severity, note.case) for note in notes]


@pytest.fixture
def sidekick() -> Iterator[falcosidekick.Falcosidekick]:
    with falcosidekick.running() as fake:
        yield fake


class Running:
    """A service in a thread of its own, and a Falco that posts to it over one kept connection."""

    def __init__(self, settings: Settings, rules: list[CorrelationRule]) -> None:
        self._settings = settings
        self._rules = rules
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        assert self._ready.wait(60)
        assert self._thread.is_alive(), "the service could not start"
        self.falco = http.client.HTTPConnection("127.0.0.1", self.service.http_port, timeout=60)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        sinks, state = make_sinks(self._settings.sinks), make_state(self._settings)
        expected = Expectations(loading.load([SHIPPED_EXPECTATIONS]))
        self.service = Service(self._settings, self._rules, sinks, state, expectations=expected)
        try:
            await self.service.start()
        finally:
            self._ready.set()
        await self._stop.wait()
        await self.service.stop()

    def post(self, body: bytes) -> int:
        self.falco.request("POST", "/", body, {"Content-Type": "application/json"})
        answer = self.falco.getresponse()
        answer.read()
        return answer.status

    def get(self, path: str) -> tuple[int, str]:
        admin = http.client.HTTPConnection("127.0.0.1", self.service.admin_port, timeout=60)
        admin.request("GET", path)
        answer = admin.getresponse()
        text = answer.read().decode()
        admin.close()
        return answer.status, text

    def metric(self, name: str) -> float:
        """The value of `falco_correlator_<name>`, labels included in the name."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(f"falco_correlator_{name} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(name)

    def close(self) -> None:
        self.falco.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)


Serving = Callable[[dict[str, Any]], Any]


@pytest.fixture
def serving(rules: list[CorrelationRule]) -> Serving:
    """A context manager that runs a service with the given settings; ports are free ones."""

    @contextmanager
    def running(settings: dict[str, Any]) -> Iterator[Running]:
        plain = {"admin": {"port": 0}, **settings, "http": {"port": 0, **settings.get("http", {})}}
        service = Running(build(Settings, plain, "test"), rules)
        try:
            yield service
        finally:
            service.close()

    return running


def needs(program: str) -> str:
    """The path of a program; without it the test is skipped, in CI it fails."""
    path = shutil.which(program)
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(f"{program} is not installed, and CI skips nothing")
        pytest.skip(f"{program} is not installed")
    return path
