"""The running process: everything wired together by the settings, supervised, measured and stopped.

Belongs here: life cycle and wiring. Does not: any protocol, and no correlation.
"""
