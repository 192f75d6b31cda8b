"""Where alerts come in. A source passes each alert to the function it was given, independent of what follows.

Belongs here: one file for each transport. Does not: what an alert means (`alerts`).
"""
