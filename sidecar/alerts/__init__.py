"""One alert by itself: decoded, classified, shortened, masked.

Belongs here: what can be said of an alert without looking at another one. Does not: contexts (`correlation`) or
transports (`sources`).
"""
