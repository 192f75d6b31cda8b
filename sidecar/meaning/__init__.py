"""What a detection means: whether the program above it is a service, what was really run, and how the two are related.

Falco rules are broad; here their alerts are judged, from data (`falco_rules/programs.yaml`) and without memory.

Belongs here: questions that one process, one command line or one path answers. `service`: is it a service; `boundary`:
does it let people or jobs in; `program`: what was really run; `identity`: does it use its own; `script`:
is a script part of the application; `declined`: why a
detection means nothing here. Does not: what was seen before (`correlation.memory`), and which context a detection joins
(`correlation`).
"""
