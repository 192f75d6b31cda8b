"""Whether a script is part of the application, so that what it does is the application's work (question 4).

A service that runs `/scripts/notify.sh` does what its image or its configuration says. One that runs `sh -c` may
run the command of a request, and a script that was dropped is an intruder's.
"""

from sidecar.meaning.tables import current, remembered


@remembered
def is_of_application(script: str) -> bool:
    """Whether a script, by its path, is of the image or mounted for it.

    It is not in a folder where the service writes, or users, or anyone.
    """
    tables = current()
    folders = (tables.world_writable, tables.dropped, tables.data)
    return script.startswith("/") and not any(folder.has_path(script) for folder in folders)
