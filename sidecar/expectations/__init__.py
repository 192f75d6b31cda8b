"""What is normal at a place, by entries of known software and of the user, as data (`falco_rules/expected/`).

Belongs here: entries, their loader, patterns over the words of a command, and whether an entry covers a detection. Does
not: what a detection means (`meaning`), which context it joins (`correlation`), verdicts, and silences.
"""
