"""A single alert: decoded, classified, truncated, its secrets masked.

Belongs here: whatever can be decided about an alert without looking at another one. Does not: contexts
(`correlation`), transports (`sources`).
"""
