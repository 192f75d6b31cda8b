"""Relates alerts to each other: which context a detection belongs to, and when that makes an incident.

Synchronous, without I/O, asyncio or logging; clocks are parameters. Belongs here: the way from an alert to a
notification. Does not: how an incident is shown (`incidents`) or sent (`delivery`, `sinks`).
"""
