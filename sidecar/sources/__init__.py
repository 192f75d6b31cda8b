"""Where alerts come in. A source passes each alert to a function that it was given, whatever that does.

Belongs here: one module per transport. Does not: what an alert means (`alerts`).
"""
