"""Incidents for the terminal, in the structures of `view`: from a running service or from a state file."""

import sqlite3
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from sidecar.errors import CorrelatorError
from sidecar.incidents import lookup, query, view
from sidecar.incidents.why import Places
from sidecar.storage.archive import Archive, read_only

T = TypeVar("T")

TIMEOUT_SECONDS = 10.0

MAX_RESPONSE_BYTES = 32 * 1024 * 1024


class UnavailableError(CorrelatorError):
    """The service or the file cannot be read; the text says what to do."""


class IncidentReader(Protocol):
    """Where incidents come from: a service or a file.

    Both methods raise UnavailableError if it cannot be read. `page` raises QueryError for wrong parameters, which are
    those of the API, and `incident` raises NotFoundError or AmbiguousError for an ID without exactly one incident.
    """

    def page(self, parameters: dict[str, str]) -> view.Page: ...

    def incident(self, prefix: str) -> view.Incident: ...

    def why(self, name: str) -> Places: ...


class HttpReader:
    """Reads from a running service through its administration port."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def page(self, parameters: dict[str, str]) -> view.Page:
        return self._get("/api/v1/incidents?" + urllib.parse.urlencode(parameters), view.Page)

    def incident(self, prefix: str) -> view.Incident:
        return self._get(f"/api/v1/incidents/{prefix}", view.Incident)

    def why(self, name: str) -> Places:
        return self._get("/api/v1/why?" + urllib.parse.urlencode({"place": name}), Places)

    def _get(self, path: str, kind: type[T]) -> T:
        try:
            with urllib.request.urlopen(self._url + path, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - http or https, checked above
                return msgspec.json.decode(response.read(MAX_RESPONSE_BYTES), type=kind)
        except urllib.error.HTTPError as error:
            with error:
                raise _error_for(error.code, error.read(4096)) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise UnavailableError(
                f"{self._url}: {reason}; is the service running? Use --url for another one, --state for a state file"
            ) from None


def _error_for(status: int, body: bytes) -> Exception:
    try:
        reason = str(msgspec.json.decode(body)["error"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return UnavailableError(
            f"answered {status}; is it the administration port of falco-correlator, with admin.pages on?"
        )
    kinds = {400: query.QueryError, 404: lookup.NotFoundError, 409: lookup.AmbiguousError}
    return kinds.get(status, UnavailableError)(reason)


class FileReader:
    """Reads from a state file, which a service may be using."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def page(self, parameters: dict[str, str]) -> view.Page:
        now = time.time_ns()
        wanted = query.parse(urllib.parse.urlencode(parameters), now)
        return self._read(lambda archive: lookup.page(archive, wanted, now))

    def incident(self, prefix: str) -> view.Incident:
        return self._read(lambda archive: lookup.incident(archive, prefix, time.time_ns()))

    def why(self, name: str) -> Places:  # noqa: ARG002 - the signature of a reader
        raise UnavailableError(
            "a state file does not hold what led to no incident; ask the running service, without --state, or replay"
            " the alerts: falco-correlator replay --explain FILE"
        )

    def _read(self, read: Callable[[Archive], T]) -> T:
        try:
            return read(read_only(self._path))
        except sqlite3.Error as error:
            raise UnavailableError(f"{self._path}: cannot be read as a state file: {error}") from None
