"""Names of first processes, and of what starts them from outside a container."""

from collections.abc import Iterable

RUNTIMES = frozenset(
    (
        "containerd-shim",
        "containerd-shim-runc-v2",
        "runc",
        "crun",
        "conmon",
        "conmonrs",
        "dockerd",
        "youki",
        "kata-agent",
        "docker-containerd-shim",
    ),
)
"""Processes outside a container that start its first process, or enter it. Names are cut at 15 characters."""

_RUNTIME_NAMES = frozenset(name[:15] for name in RUNTIMES) | RUNTIMES

HOST_INITS = frozenset(("systemd", "init"))

INITS = frozenset(("tini", "dumb-init", "docker-init", "catatonit", "pause", "init"))
"""First processes that start one child at the beginning and afterwards only inherit orphans."""


def is_runtime(name: str) -> bool:
    """Whether a process of this name runs outside containers and starts processes in them."""
    return name in _RUNTIME_NAMES or name.startswith("runc:")


def is_outside(names: Iterable[str]) -> bool:
    """Whether all processes of these names run outside containers, as those above a container's first process do."""
    return all(not name or is_runtime(name) or name in HOST_INITS or name in INITS for name in names)
