"""What is kept on disk: alerts, decided notifications and positions (`state`), incidents for reading (`archive`).

Belongs here: SQL and files. Does not: what is stored or sent when (`delivery`).
"""
