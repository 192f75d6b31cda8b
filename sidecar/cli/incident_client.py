"""Incidents for the terminal: asked of a running service, or read from a state file, in the structures of `view`."""

import sqlite3
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from sidecar.errors import CorrelatorError
from sidecar.incidents import query, view
from sidecar.storage.archive import read_only

T = TypeVar("T")

TIMEOUT = 10.0

MOST_BYTES = 32 * 1024 * 1024


class AskError(CorrelatorError):
    """The service or the file does not answer; the text says what to do."""


class NoSuchIncidentError(CorrelatorError):
    """No incident has this id, or more than one begins so."""


class Asked(Protocol):
    """Where incidents come from: a service or a file."""

    def page(self, parameters: dict[str, str]) -> view.Page: ...

    def incident(self, name: str) -> view.Incident: ...


class OfService:
    """Asks a running service at its administration port."""

    def __init__(self, url: str) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise AskError(f"--url: expected http://host:port, got {url!r}")
        self._url = url.rstrip("/")

    def page(self, parameters: dict[str, str]) -> view.Page:
        return self._get("/api/v1/incidents?" + urllib.parse.urlencode(parameters), view.Page)

    def incident(self, name: str) -> view.Incident:
        return self._get(f"/api/v1/incidents/{name}", view.Incident)

    def _get(self, path: str, kind: type[T]) -> T:
        try:
            with urllib.request.urlopen(self._url + path, timeout=TIMEOUT) as answer:  # noqa: S310 - http or https, above
                return msgspec.json.decode(answer.read(MOST_BYTES), type=kind)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error.code, error.read(4096)) from None
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", error)
            told = f"{self._url}: {why}; is the service running? --url names another, --state reads its state file"
            raise AskError(told) from None


def _refused(status: int, body: bytes) -> Exception:
    try:
        why = str(msgspec.json.decode(body)["error"])
    except (msgspec.DecodeError, KeyError, TypeError):
        why = f"answered {status}; is it the administration port of falco-correlator, with admin.pages on?"
    if status == 400:
        return query.QueryError(why)
    return (NoSuchIncidentError if status in (404, 409) and b"error" in body else AskError)(why)


class OfFile:
    """Reads a state file, whether or not a service uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def page(self, parameters: dict[str, str]) -> view.Page:
        now = time.time_ns()
        wanted = query.parse(urllib.parse.urlencode(parameters), now)
        rows, total = self._read(lambda archive: archive.listed(wanted, now))
        return view.Page(total, wanted.limit, wanted.offset, [view.row(row, now) for row in rows])

    def incident(self, name: str) -> view.Incident:
        names = self._read(lambda archive: archive.matching(name))
        if not names:
            raise NoSuchIncidentError(f"incident {name} not found (it may have expired)")
        if len(names) > 1:
            raise NoSuchIncidentError(f"{name} matches more than one incident: {', '.join(names)}")
        note, steps = self._read(lambda archive: archive.find(names[0]))
        return view.of(note, steps, time.time_ns())

    def _read(self, read: Any) -> Any:
        try:
            return read(read_only(self._path))
        except sqlite3.Error as error:
            raise AskError(f"{self._path}: cannot be read as a state file: {error}") from None
