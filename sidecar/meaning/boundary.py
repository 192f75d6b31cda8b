"""Whether a process lets people or jobs in, so that the service above it did not start what is below (question 3).

Recognised by the resolved file, or by a script at a place where packages install it: never by a name, which anyone can
type or set.
"""

from sidecar.meaning.tables import current, remembered

UNPROTECTED = frozenset(("container_runtimes", "coding_agents", "remote_editors"))
"""Kinds whose files lie where the user of a service may write, or that a container can fake: they count only where no
service is above them."""

OF_JOBS = frozenset(
    (
        "job_runners",
        "package_managers",
        "installers",
        "ci_agents",
        "image_builders",
        "queue_workers",
        "coding_agents",
        "remote_editors",
        "added",
    )
)
"""Kinds below which whatever may serve, but was not seen to, is part of the job."""


@remembered
def boundary(image: str, command: str) -> str:
    """The kind of boundary that a process is, "" if it is none.

    `image` is its resolved file, or its name where the file is unknown; `command` as `command.summary` gives it.
    """
    script, _, subcommand = command.partition(" ")
    for kind, programs in current().boundaries.items():
        subcommands = (subcommand, script) if programs.has_file(image) else (subcommand,)
        is_one = programs.has_file(image) or (script.startswith("/") and programs.has_path(script))
        if is_one and (not programs.commands or any(map(programs.has_command, subcommands))):
            return kind
    return ""
