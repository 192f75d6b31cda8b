"""What a program is by its file and script: a service, one that may serve, a job tool, or none of these (question 1).

Whether one that may serve does, is remembered elsewhere (`correlation.memory.servers`).
"""

from enum import IntEnum

from sidecar.meaning.command_summary import CODE
from sidecar.meaning.tables import Programs, base_name, current, remembered


class Nature(IntEnum):
    """What a program is, as far as its file and script say."""

    NONE = 0
    """A shell, a tool, an init: it never makes its children those of a service."""
    PROGRAM = 1
    """Another program: in a container it is a service once it was seen to listen."""
    JOB_SCRIPT = 2
    """It does one thing and ends, by the name of its script: it serves nothing, unless it was seen to listen."""
    JOB_TOOL = 3
    """It serves nothing, unless it was seen to listen; what may serve below it is part of its job."""
    RUNTIME = 4
    """It may serve: if it listened, or if nobody can know."""
    SERVICE = 5
    """It is a service, whatever it listens on."""


@remembered
def nature(image: str, name: str, command: str) -> Nature:
    """What a program is.

    `image` is its resolved file, or its name where the file is unknown; `name` is what the process calls itself, which
    names the script where an interpreter was started by one; `command` as `command.summary` gives it.
    """
    tables = current()
    script, _, subcommand = command.partition(" ")
    is_interpreter = tables.runtimes.has_file(image) or tables.interpreters.has_file(image)
    scripts = (script, name) if is_interpreter or "/" not in image else ()
    if any(_is_one(kind, image, scripts) for kind in tables.services.values()):
        return Nature.SERVICE
    if _is_job_tool(image, scripts, (script, subcommand)):
        return Nature.JOB_TOOL
    if _is_tool(image, name) or _is_one(tables.supervisors, image, scripts):
        return Nature.NONE
    if any(map(tables.job_scripts.has_script, scripts)):
        return Nature.JOB_SCRIPT
    if is_interpreter:
        return Nature.PROGRAM if script == CODE else Nature.RUNTIME
    return Nature.RUNTIME if tables.compiled_servers.has_file(image) else Nature.PROGRAM


def _is_one(kind: Programs, image: str, scripts: tuple[str, ...]) -> bool:
    return kind.has_file(image) or any(map(kind.has_script, scripts))


def _is_job_tool(image: str, scripts: tuple[str, ...], words: tuple[str, ...]) -> bool:
    tables = current()
    if _is_one(tables.job_tools, image, scripts) or (image.startswith("/") and tables.job_tools.has_path(image)):
        return True
    return _is_one(tables.job_commands, image, scripts) and any(map(tables.job_commands.has_command, words))


def _is_tool(image: str, name: str) -> bool:
    tables = current()
    kinds = (
        tables.shells,
        tables.shell_utilities,
        tables.http_clients,
        tables.network_utilities,
        tables.multi_call,
        tables.loaders,
    )
    return not (image or name) or any(kind.has_file(image) for kind in kinds) or _is_reader(image)


def _is_reader(image: str) -> bool:
    """Whether it is a tool that reads files, other than an interpreter."""
    return current().file_readers.has_file(image) and not base_name(image).startswith(("perl", "python"))
