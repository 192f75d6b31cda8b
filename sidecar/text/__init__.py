"""Text: made harmless for each output, filled into templates, and cleared of secrets.

Belongs here: pure functions from text to text. Does not: what a text means, where it came from, or where it goes.
"""
