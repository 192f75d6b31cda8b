"""The settings: their types and defaults, how they are loaded, checked and displayed.

Belongs here: every setting and the checks across settings. Does not: code that acts on a setting.
"""
