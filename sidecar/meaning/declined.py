"""Why a detection means nothing here: the reasons that are counted."""

REASONS: dict[str, str] = {
    "own_identity": "A program of the image used the identity of its own workload.",
    "moves_data": "A cloud's command line copied data: traffic, not a look at credentials.",
}
"""Each reason with its meaning for the reference. A fixed set: the keys are metric labels."""
