"""What correlation remembers: containers, their contexts, processes and pending detections, within budgets.

Belongs here: state and its bounds. Does not: the decision which context a detection joins (`correlation`).
"""
