"""What holds for every sink. They are found by the code: a new one is tested here without being added."""

import asyncio
import contextlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import Play, spec
from support.switched_on import switched_on

from sidecar import sinks
from sidecar.errors import SinkError
from sidecar.incidents.falco_event import to_json
from sidecar.model import Outgoing, delivery_key
from sidecar.settings.checks import validate
from sidecar.settings.display import to_yaml
from sidecar.settings.schema import Settings
from sidecar.settings.section import leaves
from sidecar.settings.sinks import Sinks, SinkSettings
from sidecar.sinks.factory import make_sinks

KINDS = {
    field.name: field.type
    for field in msgspec.structs.fields(Sinks)
    if isinstance(field.type, type) and issubclass(field.type, SinkSettings)
}
SHARED_MODULES = {"factory", "http"}

every_sink = pytest.mark.parametrize("name", KINDS)


def fields_named(pattern: str) -> list[tuple[str, str]]:
    """Sink and setting, wherever the setting's name matches."""
    return [
        (name, field.name)
        for name, kind in KINDS.items()
        for field in msgspec.structs.fields(kind)
        if re.search(pattern, field.name)
    ]


def set_to(name: str, **values: Any) -> Settings:
    """The defaults with these settings of one sink."""
    return Settings(sinks=msgspec.structs.replace(Sinks(), **{name: KINDS[name](**values)}))


def only(name: str) -> Settings:
    """The defaults with this sink alone."""
    return Settings(sinks=msgspec.structs.replace(Sinks(), **{name: switched_on(KINDS[name])}))


def test_every_module_of_the_room_is_a_sink_with_settings() -> None:
    modules = {module.name for module in pkgutil.iter_modules(sinks.__path__)}

    assert modules - SHARED_MODULES == set(KINDS)


@every_sink
def test_a_sink_is_off_by_default(name: str) -> None:
    assert not KINDS[name]().configured()


@every_sink
def test_a_sink_alone_is_enough(name: str) -> None:
    assert list(validate(only(name))) == []


@every_sink
def test_a_sink_is_made_under_the_name_of_its_settings(name: str) -> None:
    (sink,) = make_sinks(only(name).sinks)
    sink.close()

    assert sink.name == name


@every_sink
def test_a_sink_takes_a_notification_or_raises_sink_error(name: str, play: Play) -> None:
    (note,) = play(spec("nginx > sh", "web_shell"), spec("nginx > sh > curl", "network", at="1s"))
    (sink,) = make_sinks(only(name).sinks)
    out = Outgoing(delivery_key(note, name), to_json(note), note)

    async def sent() -> None:
        with contextlib.suppress(SinkError):
            await asyncio.wait_for(sink.send(out), 60)
        sink.close()

    asyncio.run(sent())


@pytest.mark.parametrize(("name", "field"), fields_named(r"token|password|secret|headers|api_?key|credential"))
def test_a_setting_that_sounds_secret_is_hidden(name: str, field: str) -> None:
    text = "geheim" if isinstance(getattr(KINDS[name](), field), str) else {"x": "geheim"}
    settings = set_to(name, **{field: text})

    assert "geheim" not in to_yaml(settings, hide=True)


@pytest.mark.parametrize(("name", "field"), fields_named("url"))
def test_a_setting_named_url_is_checked(name: str, field: str) -> None:
    settings = set_to(name, **{field: "nowhere"})

    assert any(problem.startswith(f"sinks.{name}.{field}: expected ") for problem in validate(settings))


@pytest.mark.parametrize(("name", "field"), fields_named("url"))
def test_a_setting_named_url_is_shown_without_its_password(name: str, field: str) -> None:
    settings = set_to(name, **{field: "http://bob:geheim@h:1/@x"})

    assert "http://***@h:1/@x" in to_yaml(settings, hide=True)


@every_sink
def test_a_sink_with_a_secure_url_gets_openssl(name: str) -> None:
    settings = switched_on(KINDS[name])
    urls = [leaf for leaf in leaves(settings) if leaf.marks and str(leaf.value).startswith("http://")]
    secure = {".".join(leaf.keys): leaf.value.replace("http://", "https://") for leaf in urls}

    assert msgspec.structs.replace(settings, **secure).needs_openssl() or not secure


@every_sink
def test_a_sink_has_a_test_beside_this_one(name: str, request: pytest.FixtureRequest) -> None:
    others = [path for path in request.path.parent.rglob("test_*.py") if path != request.path]

    assert any(name in text for text in map(Path.read_text, others))
