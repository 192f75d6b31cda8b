"""An incident as people and programs read it: a view, a Falco event, text for a terminal, a query for a list.

Belongs here: notification -> presentation. Does not: deciding that there is an incident (`correlation`), or HTTP
(`admin`).
"""
