"""Where alerts come in. A source hands each alert to the function it was given, and knows nothing of what follows.

Belongs here: one file for each transport. Does not: what an alert means (`alerts`).
"""
