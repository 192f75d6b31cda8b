"""HTTP/1.1 in both directions, TLS, and who may hold a connection.

Belongs here: protocol and admission, without knowledge of alerts. Does not: what a request means (`sources`, `admin`).
"""
