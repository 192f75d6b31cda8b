"""YAML files that users write: read into typed structures, with every mistake and its line reported at once.

Belongs here: what holds for any such file. Does not: settings or rules themselves.
"""
