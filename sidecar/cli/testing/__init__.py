"""Tests inside files of rules and expectations, for the commands `test` and `check`.

Belongs here: short stories, how they are played, and why one failed. Does not: tests of this project (`tests/`).
"""
