"""The administration port: health, metrics, incident pages and the JSON API.

Belongs here: answers to GET requests. Does not: how an incident is structured (`incidents`).
"""
