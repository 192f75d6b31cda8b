"""What a request asks of a page beside its content: the time zone, and to be loaded again from time to time."""

from datetime import UTC, tzinfo
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

from sidecar.admin.pages import times
from sidecar.net.http_server import Request

REFRESH_SECONDS = (10, 30, 60)
"""Pauses that a reader may choose; by default a page stays as it is."""

_OURS = ("tz", "refresh")


class View(NamedTuple):
    """How one reader sees one page.

    `path` and `query` are those of the page, the query without what is in here; `zone_name` is as it was asked for, and
    `is_unknown` if there is none of that name. `refresh` is in seconds, 0 for never. `chose_zone`: just now.
    """

    path: str = "/"
    query: str = ""
    zone: tzinfo = UTC
    zone_name: str = "UTC"
    is_unknown: bool = False
    refresh: int = 0
    chose_zone: bool = False

    @property
    def headers(self) -> str:
        """Lines of the response."""
        return f"Refresh: {self.refresh}\r\n" if self.refresh else ""

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The parameters of the page, which a form on it must send again."""
        return parse_qsl(self.query)

    def link(self, *without: str, **given: object) -> str:
        """The same page with other parameters, without some of them."""
        kept = [pair for pair in self.fields if pair[0] not in (*without, *given)]
        refresh = [] if not self.refresh or "refresh" in (*without, *given) else [("refresh", str(self.refresh))]
        query = urlencode([*kept, *((name, str(value)) for name, value in given.items()), *refresh])
        return f"{self.path}?{query}" if query else self.path


def view(request: Request) -> View:
    """What a request asks for. A choice of the zone is kept in a cookie."""
    path, _, parameters = request.path.partition("?")
    pairs = parse_qsl(parameters, keep_blank_values=True)
    given = {name: value.strip() for name, value in pairs if name in _OURS}
    name = given.get("tz") or times.from_cookies(request.cookie) or "UTC"
    zone = times.zone(name)
    refresh = given.get("refresh", "")
    seconds = int(refresh) if refresh in map(str, REFRESH_SECONDS) else 0
    return View(
        path,
        urlencode([pair for pair in pairs if pair[0] not in _OURS]),
        zone or UTC,
        name if zone is not None else "UTC",
        zone is None,
        seconds,
        zone is not None and bool(given.get("tz")),
    )
