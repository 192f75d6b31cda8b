"""The sidecar's pipeline as a peer among peers, run as `ours.py FILE`: gives the contexts that are critical."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from peers import common

from sidecar.correlation.pipeline import Pipeline
from sidecar.model import Notification
from sidecar.rules.loading import SHIPPED, load
from sidecar.service.run import collect_rarely


def critical(pipeline: Pipeline, alerts: Iterable[bytes]) -> Iterator[str]:
    """The contexts that become a full compromise, named as `workload.name` does."""
    for alert in alerts:
        for message in pipeline.process_json(alert)[1]:
            yield from _named(message)
    for message in pipeline.flush():
        yield from _named(message)


def _named(message: object) -> Iterator[str]:
    if isinstance(message, Notification) and message.severity == "critical":
        yield f"{message.where.container}/{message.fields.sid}"


def main() -> None:
    """Load the rules, as a service has done before the first alert, then measure."""
    pipeline = Pipeline(load([SHIPPED / "correlation"]), time.monotonic)
    collect_rarely()

    def work(path: Path) -> Iterable[str]:
        with path.open("rb") as lines:
            return list(critical(pipeline, map(bytes.rstrip, lines)))

    common.run(work)


if __name__ == "__main__":
    main()
