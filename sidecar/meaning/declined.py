"""Why a detection means nothing here: the reasons that are counted."""

REASONS: dict[str, str] = {
    "no_service": "No service is above the program that was started.",
    "not_serving": "The program above it started while we watched, and listened on no port: a job, a build, a tool.",
    "job_tool": "A package manager, a build, a test runner or a queue worker is above it, which serves nothing.",
    "boundary": "It was let in from outside, or started by a job runner, a package manager or a CI agent.",
    "adopted": "The first process of its container only adopted it: it was started from outside.",
    "own_identity": "A program of the image used the identity of its own workload.",
    "own_script": "A script of the image or of a volume, run by its file, did it: it is part of the application.",
    "moves_data": "A cloud's command line copied data: traffic, not a look at credentials.",
}
"""Each reason with its meaning for the reference. A fixed set: the keys are metric labels."""
