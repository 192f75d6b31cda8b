"""Why a detection means nothing here: the reasons that are counted."""

from typing import NamedTuple


class Reason(NamedTuple):
    """Why a detection means nothing, and which of the five questions decided that."""

    question: str
    meaning: str


REASONS: dict[str, Reason] = {
    "no_service": Reason("service", "No service is above the program that was started."),
    "not_serving": Reason(
        "service",
        "The program above it is named as a job, or started while we watched and listened on no port.",
    ),
    "job_tool": Reason(
        "service", "A package manager, a build, a test runner or a queue worker is above it, which serves nothing."
    ),
    "boundary": Reason(
        "depth", "It was let in from outside, or started by a job runner, a package manager or a CI agent."
    ),
    "adopted": Reason("depth", "The first process of its container only adopted it: it was started from outside."),
    "own_identity": Reason("identity", "A program of the image used the identity of its own workload."),
    "own_script": Reason(
        "identity", "A script of the image or of a volume, run by its file, did it: it is part of the application."
    ),
    "machine_facts": Reason(
        "identity", "It asked a metadata service for facts about the machine, such as its address, not for credentials."
    ),
    "moves_data": Reason("identity", "A cloud's command line copied data: traffic, not a look at credentials."),
}
"""Each reason by its name. A fixed set: names and questions are metric labels."""
