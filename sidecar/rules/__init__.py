"""Correlation rules: as written in YAML, as compiled for the engine, and how they are loaded.

Belongs here: the rule language. Does not: evidence, contexts or time (`correlation`), or any particular attack
(`falco_rules/`).
"""
