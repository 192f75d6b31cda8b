"""Whether a process lets people or jobs in, so that the service above it did not start what is below (question 3).

Recognised by the resolved file, or by a script at a place where packages install it, never by a name, which anyone can
type or set. The executors of CI and workflow controllers are known by the name of their code alone, so only where
nothing above them may be a service.
"""

from sidecar.meaning.tables import current, remembered

EXECUTORS = "executors"
"""The kind that counts only where nothing above it may be a service."""

UNPROTECTED = frozenset(("container_runtimes", "coding_agents", "remote_editors", EXECUTORS))
"""Kinds whose files lie where the user of a service may write, or that a container can fake: they count only where no
service is above them."""

OF_JOBS = frozenset(
    (
        "job_runners",
        "package_managers",
        "installers",
        "ci_agents",
        EXECUTORS,
        "management_agents",
        "monitors",
        "image_builders",
        "queue_workers",
        "coding_agents",
        "remote_editors",
        "added",
    )
)
"""Kinds below which whatever may serve, but was not seen to, is part of the job."""


@remembered
def is_of_context_kind(kind: str, image: str, name: str, command: str) -> bool:
    """Whether a process is what contexts of a kind hang on: a package manager that installs, an agent of a CI system.

    `image` is its resolved file, or its name where the file is unknown; `command` as `command.summary` gives it.
    """
    programs = current().context_kinds[kind]
    script, _, subcommand = command.partition(" ")
    if programs.has_file(image):
        return not programs.commands or any(map(programs.has_command, (script, subcommand)))
    return any(map(programs.has_script, (script, name))) and programs.has_command(subcommand)


@remembered
def boundary(image: str, command: str) -> str:
    """The kind of boundary that a process is, "" if it is none.

    `image` is its resolved file, or its name where the file is unknown; `command` as `command.summary` gives it.
    """
    tables = current()
    script, _, subcommand = command.partition(" ")
    is_only_named = "/" not in image and tables.runtimes.has_file(image)  # a runtime runs anything
    for kind, programs in tables.boundaries.items():
        is_file = not is_only_named and programs.has_file(image)
        is_script = script.startswith("/") and programs.has_path(script)
        is_script = is_script or (bool(programs.scripts) and programs.has_script(script))
        subcommands = (subcommand, script) if is_file else (subcommand,)
        if (is_file or is_script) and (not programs.commands or any(map(programs.has_command, subcommands))):
            return kind
    return ""
