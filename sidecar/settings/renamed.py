"""Settings that had another name once: an old name is answered with the new one, never silently ignored."""

from collections.abc import Iterator
from typing import Any

RENAMED = {
    "http.head_deadline": "http.header_timeout",
    "http.deadline": "http.body_timeout",
    "http.max_per_peer": "http.max_connections_per_client",
    "grpc.poll_min": "grpc.min_poll_interval",
    "grpc.poll_max": "grpc.max_poll_interval",
    "journal.poll": "journal.poll_interval",
    "pass_through.queue": "pass_through.queue_size",
    "sinks.queue": "sinks.queue_size",
    "sinks.grpc.socket_for": "sinks.grpc.socket_mode",
    "sinks.grpc.keep": "sinks.grpc.history_size",
    "sinks.grpc.replay": "sinks.grpc.history_age",
    "sinks.grpc.queue": "sinks.grpc.queue_size",
    "admin.names": "admin.allowed_hosts",
    "state.keep": "state.retention",
    "canary.every": "canary.interval",
    "settle": "coalesce",
}
"""Old path to new path; also listed in docs/upgrading.md."""


def take_out(data: dict[str, Any]) -> Iterator[str]:
    """Remove old names from the data of a settings file, and say for each what it is called now."""
    for old, new in RENAMED.items():
        *parents, last = old.split(".")
        section: Any = data
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if isinstance(section, dict) and last in section:
            del section[last]
            yield f"{old}: renamed to {new}"
