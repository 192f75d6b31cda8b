"""YAML files that people write: read into typed structures, every mistake reported at once with its line.

Belongs here: what holds for any such file. Does not: settings or rules themselves.
"""
