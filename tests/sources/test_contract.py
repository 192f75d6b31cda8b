"""What holds for every source. They are found by the code: a new one is tested here without being added."""

import importlib
import pkgutil
from pathlib import Path

import msgspec
import pytest
from support.switched_on import switched_on

from sidecar import sources
from sidecar.rules.rule import CorrelationRule
from sidecar.service import metrics
from sidecar.service.service import Service
from sidecar.settings.checks import validate
from sidecar.settings.display import to_yaml
from sidecar.settings.loading import load
from sidecar.settings.schema import Settings
from sidecar.settings.sinks import Sinks, StdoutSinkSettings
from sidecar.settings.sources import HttpSourceSettings, SourceSettings

KINDS = {
    field.name: field.type
    for field in msgspec.structs.fields(Settings)
    if isinstance(field.type, type) and issubclass(field.type, SourceSettings)
}
FOR_PEOPLE = {"replay"}
"""Read by commands, not by the service."""

every_source = pytest.mark.parametrize("name", KINDS)


def only(name: str) -> Settings:
    """The defaults with this source alone."""
    plain = Settings(http=HttpSourceSettings(enabled=False), sinks=Sinks(stdout=StdoutSinkSettings(enabled=True)))
    return msgspec.structs.replace(plain, **{name: switched_on(KINDS[name])})


def test_every_module_of_the_room_is_a_source_with_settings() -> None:
    assert {module.name for module in pkgutil.iter_modules(sources.__path__)} - FOR_PEOPLE == set(KINDS)


@every_source
def test_a_source_says_in_its_docstring_what_it_reads(name: str) -> None:
    assert importlib.import_module(f"sidecar.sources.{name}").__doc__


@every_source
def test_a_source_is_off_unless_it_is_http(name: str) -> None:
    assert KINDS[name]().configured() is (name == "http")


@every_source
def test_a_source_alone_is_enough(name: str) -> None:
    assert list(only(name).sources()) == [name]
    assert list(validate(only(name))) == []


@every_source
def test_printed_settings_of_a_source_load_to_the_same(name: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(to_yaml(only(name)))

    assert load(file, {}) == only(name)


@every_source
def test_a_source_has_a_series_before_its_first_alert(name: str, rules: list[CorrelationRule]) -> None:
    service = Service(only(name), rules, [])
    (received,) = (each for each in metrics.metrics(service) if each.name == "alerts_received")

    assert received.values == {(name,): 0.0}


@every_source
def test_a_source_has_a_test_of_its_own(name: str, request: pytest.FixtureRequest) -> None:
    assert (request.path.parent / f"test_{name}.py").is_file()
