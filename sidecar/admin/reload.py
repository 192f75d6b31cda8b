"""Takes up changed rules and settings while the service runs: on SIGHUP, and when their files change.

What cannot be used is refused as a whole: the reason is logged and shown, and the old rules and settings stay. Files
are watched by their stamps rather than by inotify, since a ConfigMap is changed by swapping a symbolic link above them,
and a folder on a network has no events.
"""

import asyncio
import logging
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import msgspec

from sidecar.errors import ConfigError
from sidecar.expectations.entries import Expectations
from sidecar.incidents.falco_event import rfc3339
from sidecar.rules.rule import CorrelationRule
from sidecar.settings.schema import Settings
from sidecar.settings.section import changes

log = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
"""Interval between two looks at the files. A change is taken up once two looks see the same, so within twice that."""

Loaded = tuple[Settings, list[CorrelationRule], Expectations | None]

Stamp = tuple[tuple[str, int, int, int], ...]


class RuleInForce(msgspec.Struct, frozen=True):
    """A correlation rule that is in use: its id, a digest of what is written in it, and its file."""

    id: str
    version: str
    file: str


class InForce(msgspec.Struct, frozen=True):
    """The rules in force, and since when (RFC 3339).

    `refused` says why a later change was refused, "" if none was; `needs_restart` names the settings that were changed
    and wait for a restart.
    """

    rules: tuple[RuleInForce, ...]
    since: str
    refused: str = ""
    needs_restart: tuple[str, ...] = ()


class Configuration:
    """Where settings and rules come from: `load` reads and checks them, `files` names what they were read from.

    `load` raises ConfigError.
    """

    def __init__(self, load: Callable[[], Loaded], files: Callable[[Settings], Iterable[Path]]) -> None:
        self.load = load
        self.files = files


class Reloader:
    """Watches the files of a configuration; `apply` is given what they hold now.

    `counts` is by result: `success` or `failure`.
    """

    def __init__(
        self,
        settings: Settings,
        rules: Sequence[CorrelationRule],
        apply: Callable[[Settings, list[CorrelationRule], Expectations | None], None],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.in_force = InForce(_in_force(rules), rfc3339(time.time_ns()))
        self._configuration: Configuration | None = None
        self._settings = settings
        self._apply = apply
        self._loaded = self._seen = self._stamp()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_asked_again = False

    def watch(self, configuration: Configuration) -> None:
        """Take changes from there, once it is started; without, there is nothing to reload."""
        self._configuration = configuration
        self._loaded = self._seen = self._stamp()

    def start(self) -> None:
        """Reload on SIGHUP from now on, and when a file changes."""
        if self._configuration is None:
            return
        with suppress(ValueError, RuntimeError):  # only the main thread has signals
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])  # the supervisor blocks it until here
        self._watch()

    async def stop(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def check(self) -> None:
        """Reload if the files have changed, and are no longer changing."""
        stamp = self._stamp()
        if stamp != self._loaded and stamp == self._seen:
            self.reload()
        self._seen = stamp

    def reload(self) -> None:
        """Read rules and settings again, whether they have changed or not."""
        if self._task is not None and not self._task.done():
            self._is_asked_again = True
            return
        self._task = asyncio.get_running_loop().create_task(self._reload(), name="reload")

    def _watch(self) -> None:
        self.check()
        self._timer = asyncio.get_running_loop().call_later(CHECK_SECONDS, self._watch)

    async def _reload(self) -> None:
        assert self._configuration is not None  # noqa: S101 - nothing reloads without one
        while True:
            self._is_asked_again = False
            self._loaded = self._seen = self._stamp()
            try:
                settings, rules, expected = await asyncio.to_thread(self._configuration.load)
                self._take(settings, rules, expected)
            except Exception as error:  # whatever is wrong with the files, the service goes on with the old ones
                self._refuse(error)
            if not self._is_asked_again:
                return

    def _take(self, settings: Settings, rules: list[CorrelationRule], expected: Expectations | None) -> None:
        waiting = tuple(name for name, is_taken in changes(self._settings, settings) if not is_taken)
        self._apply(settings, rules, expected)
        self.counts["success"] += 1
        self.in_force = InForce(_in_force(rules), rfc3339(time.time_ns()), needs_restart=waiting)
        versions = {rule.id: rule.version for rule in self.in_force.rules}
        log.info("rules and settings were reloaded", extra={"rules": versions})
        if waiting:
            log.warning("these settings take effect after a restart", extra={"settings": waiting})

    def _refuse(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        self.counts["failure"] += 1
        self.in_force = msgspec.structs.replace(self.in_force, refused=reason)
        log.error("the change was refused, the old rules and settings stay in force", extra={"reason": reason})

    def _stamp(self) -> Stamp:
        if self._configuration is None:
            return ()
        return tuple(_stamp_of(file) for file in self._configuration.files(self._settings))


def _stamp_of(file: Path) -> tuple[str, int, int, int]:
    try:
        status = file.stat()
    except OSError:
        return str(file), 0, 0, 0
    return str(file), status.st_mtime_ns, status.st_ino, status.st_size


def _in_force(rules: Sequence[CorrelationRule]) -> tuple[RuleInForce, ...]:
    return tuple(RuleInForce(rule.id, _version(rule), rule.where) for rule in rules)


def _version(rule: CorrelationRule) -> str:
    return blake2b(msgspec.json.encode(rule.written, enc_hook=str), digest_size=4).hexdigest()
