"""Reading incidents out of an archive: one page of the list, and one incident by its id or the beginning of it."""

from collections.abc import Mapping

from sidecar.errors import CorrelatorError
from sidecar.incidents import view
from sidecar.incidents.histogram import SEVERITIES, histogram, severities
from sidecar.model import RANK
from sidecar.storage.archive import Archive, IncidentFilter


class NotFoundError(CorrelatorError):
    """No incident has this id."""


class AmbiguousError(CorrelatorError):
    """More than one incident has an id that starts like this."""


def page(archive: Archive, wanted: IncidentFilter, now: int) -> view.Page:
    """One page of the incidents that pass the filter; `now` (ns) decides which are open."""
    rows, total, times = archive.found(wanted, now)
    ranks = {RANK[severity] for severity in wanted.severities} or set(SEVERITIES)
    return view.Page(
        total,
        wanted.limit,
        wanted.offset,
        [view.summary(row, now) for row in rows],
        severities(times),
        histogram([(rank, last) for rank, last in times if rank in ranks], wanted.since, min(wanted.until or now, now)),
    )


def incident(archive: Archive, prefix: str, now: int, links: Mapping[str, str] | None = None) -> view.Incident:
    """The incident whose id starts with `prefix`; `now` (ns) decides whether it is open.

    Raises:
        NotFoundError: there is none.
        AmbiguousError: there are several.
    """
    ids = archive.matching(prefix)
    if len(ids) > 1:
        raise AmbiguousError(f"{prefix} matches more than one incident: {', '.join(ids)}")
    found = archive.find(ids[0]) if ids else None
    if found is None:
        raise NotFoundError(f"incident {prefix} not found (it may have expired)")
    note, steps = found
    return view.from_notification(note, steps, now, links)
