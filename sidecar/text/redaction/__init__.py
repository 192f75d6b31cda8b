"""Secrets in texts: where they stand, and how they are masked.

Belongs here: patterns of secrets and the masking itself. Does not: which fields of an alert are masked (`alerts`).
"""
