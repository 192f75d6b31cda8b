"""The sink that others subscribe to over gRPC: what is kept for them, the server, the protobuf messages.

Belongs here: what knows grpcio or its messages. Does not: what an incident says (`incidents`).
grpcio is imported only here and in `sources/grpc.py`, and only when configured.
"""
