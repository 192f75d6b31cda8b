"""The service as its supervisor starts it, without the modules of the command line, to save their memory."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sidecar.errors import EXIT_WRONG, ConfigError
from sidecar.expectations import loading as expectations
from sidecar.expectations.entries import Expectations
from sidecar.meaning import tables
from sidecar.net import without_openssl
from sidecar.rules.loading import SHIPPED, load
from sidecar.rules.rule import CorrelationRule
from sidecar.service import sockets
from sidecar.settings import loading
from sidecar.settings.schema import Settings
from sidecar.text.suggestion import did_you_mean

if TYPE_CHECKING:
    import socket

SHIPPED_EXPECTATIONS = SHIPPED / "expected"

NOT_SETTINGS = ("FALCO_CORRELATOR_CONFIG", "FALCO_CORRELATOR_SOCKETS", "FALCO_CORRELATOR_RUN", "FALCO_CORRELATOR_URL")
"""Environment variables that look like settings."""


def environment() -> dict[str, str]:
    """The environment variables that may be settings."""
    return {name: value for name, value in os.environ.items() if name not in NOT_SETTINGS}


def settings_of(config: Path | None) -> Settings:
    """The settings of file and environment.

    Raises:
        ConfigError: every problem in them, with the line of the file where it has one.
    """
    try:
        return loading.load(config, environment())
    except ConfigError as error:
        if config is None or error.where != str(config):
            raise
        from sidecar.yamlfile import positions  # noqa: PLC0415 - only for an error

        raise ConfigError("", [positions.located(config, problem) for problem in error.problems]) from None


def rules_of(paths: list[Path]) -> list[CorrelationRule]:
    """The correlation rules in these files and folders, by default those that ship.

    One that has the id of a rule that ships stands in for it.

    Raises:
        ConfigError: with every mistake in the files.
    """
    given = [(path, _shipped(path)) for path in paths or [Path("shipped")]]
    own = [found for path, found in given if found == path]
    rules = load(own) if own else []
    replaced = {rule.id for rule in rules}
    shipped = [found for path, found in given if found != path]
    return [*(rule for rule in (load(shipped) if shipped else []) if rule.id not in replaced), *rules]


def _shipped(path: Path) -> Path:
    """Where the rules are that ship: all of them for `shipped`, one for `shipped/ID`. Other paths are as they are."""
    folder = SHIPPED / "correlation"
    if path.parts[:1] != ("shipped",) or path.exists():
        return path
    if len(path.parts) == 1:
        return folder
    names = [each.stem.replace("_", "-") for each in sorted(folder.glob("*.yaml"))]
    if path.name not in names or len(path.parts) > 2:
        known = f"known: {', '.join(names)}"
        raise ConfigError("", [f"rules: no rule {path.name!r} ships{did_you_mean(path.name, names)} ({known})"])
    return folder / f"{path.name.replace('-', '_')}.yaml"


def expectations_of(paths: list[Path]) -> Expectations | None:
    """The expectations in these files and folders, by default those that ship. Raises ConfigError."""
    if paths == [Path("none")]:
        return None
    shipped = Path("shipped")
    return Expectations(
        expectations.load([SHIPPED_EXPECTATIONS if path == shipped else path for path in paths or [shipped]])
    )


def start_problems(settings: Settings, patience: float | None = None) -> Iterator[str]:
    """Why a start on this machine could not succeed, each with its setting and the remedy. It opens no port.

    Waits `patience` seconds for another instance that uses the state file, by default as long as a start does.
    """
    if settings.state.path:
        from sidecar.storage import state  # noqa: PLC0415 - sqlite3 only where it is used

        try:
            state.refuse_unusable_state(Path(settings.state.path), *([] if patience is None else [patience]))
        except state.StateError as error:
            yield f"state.path: {error}"
    for name, sink in settings.sinks.configured().items():
        try:
            sink.check_startable()
        except OSError as error:
            yield f"sinks.{name}.{error}"
    yield from sockets.problems(settings.listening_addresses())


class Loaded(NamedTuple):
    """What a configuration consists of: settings, correlation rules and expectations."""

    settings: Settings
    rules: list[CorrelationRule]
    expectations: Expectations | None


def loaded(config: Path | None) -> Loaded:
    """All that file and environment name. Raises ConfigError with every mistake in the first kind that has one."""
    settings = settings_of(config)
    rules = rules_of([Path(path) for path in settings.rules])
    return Loaded(settings, rules, expectations_of([Path(path) for path in settings.expectations]))


def files_of(config: Path | None, settings: Settings) -> Iterator[Path]:
    """The files and folders that settings, correlation rules and expectations are read from."""
    if config is not None:
        yield config
    for path in (*settings.rules, *settings.expectations):
        if path != "none" and Path(path).parts[:1] != ("shipped",):
            yield Path(path)
            yield from sorted(Path(path).glob("*.yaml")) if Path(path).is_dir() else ()


def serve(found: Loaded, listening: "dict[str, socket.socket]", config: Path | None) -> None:
    """Run the service until it is asked to stop. Exits with EXIT_WRONG if its state file must not be used."""
    settings = found.settings
    with contextlib.nullcontext() if settings.needs_openssl() else without_openssl.left_out():
        import asyncio  # noqa: PLC0415 - within the block

        from sidecar.admin.reload import Configuration  # noqa: PLC0415 - as above
        from sidecar.service import logs, run  # noqa: PLC0415 - as above
        from sidecar.service.restore import make_state  # noqa: PLC0415 - as above
        from sidecar.service.service import Service, redactor  # noqa: PLC0415 - as above
        from sidecar.sinks.factory import make_sinks  # noqa: PLC0415 - as above
        from sidecar.storage.state import StateError  # noqa: PLC0415 - as above

        logs.setup(settings.log_level, redactor(settings))
        try:
            state = make_state(settings)
        except StateError as error:
            sys.stderr.write(f"state.path: {error}\n")
            sys.exit(EXIT_WRONG)
        tables.extend(settings.programs)
        configuration = Configuration(lambda: loaded(config), lambda settings: files_of(config, settings))
        sinks = make_sinks(settings.sinks)
        service = Service(settings, found.rules, sinks, state, listening, found.expectations)
        service.reloader.watch(configuration)
    asyncio.run(run.serve(service))


def main(arguments: list[str]) -> None:
    """`python -m sidecar.service.worker [CONFIG]`: what the supervisor starts, with the sockets."""
    config = Path(arguments[0]) if arguments else None
    try:
        found = loaded(config)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_WRONG)
    serve(found, sockets.inherited(), config)


if __name__ == "__main__":
    main(sys.argv[1:])
