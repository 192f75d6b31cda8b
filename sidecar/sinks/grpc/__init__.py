"""The sink that others subscribe to over gRPC: what is kept for them, the server, the protobuf messages.

Belongs here: code that uses grpcio or its messages. Does not: what an incident says (`incidents`).
grpcio is imported only here and in `sources/grpc.py`, and only when configured.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.settings.sinks import GrpcSinkSettings
    from sidecar.sinks.grpc.subscribers import Subscribers


def make_sink(settings: "GrpcSinkSettings") -> "Subscribers":
    """The sink for `sinks.grpc`."""
    from sidecar.sinks.grpc.subscribers import Subscribers  # noqa: PLC0415 - its modules import this package first

    return Subscribers(settings)
