"""Whether a script is part of the application, so that what it does is the application's work (question 4).

A service that runs `/scripts/notify.sh` does what its image or its configuration says. One that runs `sh -c` may
run the command of a request, and a script that was dropped is an intruder's. A script whose arguments name a tool
(`with-env curl http://x`, or `ping.sh "192.0.2.1;curl http://x"`) does with that tool what its caller says.
"""

import re
from itertools import islice

from sidecar.meaning.command_summary import CODE, summary
from sidecar.meaning.tables import base_name, current, remembered
from sidecar.model import Fields

MAX_ARGUMENT_CHARS = 1024
"""Characters of a script's arguments that are searched for tools."""

MAX_TOOLS = 8

_WORD = re.compile(r"[\w.+/-]+")


@remembered
def is_of_application(script: str) -> bool:
    """Whether a script, by its path, is of the image or mounted for it.

    It is not in a folder where the service writes, or users, or anyone.
    """
    tables = current()
    folders = (tables.world_writable, tables.dropped, tables.data)
    return script.startswith("/") and not any(folder.has_path(script) for folder in folders)


def tools_named(fields: Fields) -> tuple[str, ...]:
    """The tools that the arguments of a shell's script name, as a shell that starts with a script shows them."""
    tables = current()
    command = fields.cmdline or ""
    if not tables.shells.has_file(fields.exepath or fields.name or ""):
        return ()
    script = summary(command).partition(" ")[0]
    if not script or script == CODE:
        return ()
    arguments = command.partition(script)[2][:MAX_ARGUMENT_CHARS]
    words = dict.fromkeys(base_name(word) for word in _WORD.findall(arguments))
    kinds = (tables.http_clients, tables.network_utilities, tables.shells, tables.interpreters)
    others = (tables.file_readers, tables.shell_utilities)
    return tuple(islice((word for word in words if any(kind.has_file(word) for kind in (*kinds, *others))), MAX_TOOLS))
