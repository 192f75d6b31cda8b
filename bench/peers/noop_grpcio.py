"""The reader of Falco's gRPC output that everybody writes first: grpcio as it is, each message parsed, thrown away."""

import sys
import time
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).parents[2]))
from sidecar._proto.falco import outputs_pb2


def main(address: str) -> None:
    """Drain again and again, soon while there is something."""
    with grpc.insecure_channel(address) as channel:
        get = channel.unary_stream(
            "/falco.outputs.service/get",
            request_serializer=lambda data: data,
            response_deserializer=outputs_pb2.response.FromString,
        )
        while True:
            got = sum(1 for _ in get(b"", wait_for_ready=True))
            time.sleep(0.02 if got else 0.1)


if __name__ == "__main__":
    main(sys.argv[1])
