"""A client as Falco's users have it, made of Falco's published interface: prints each response as a line of JSON.

Usage: stock_client.py ADDRESS WAY [CA CERT KEY]

WAY is `polls` (a request every 0.1 s, as client-py), `ticks` (the first request after a while, as client-go's
OutputsWatch), `once` (one request, then it only listens), `slow` (never reads) or `get`. The generated modules are in
PYTHONPATH: they cannot be in one process with ours, which declare the same names.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToJson


def main(address: str, way: str, *files: str) -> None:
    import outputs_pb2 as messages  # type: ignore[import-not-found]
    import outputs_pb2_grpc as services  # type: ignore[import-not-found]

    stub = services.serviceStub(_channel(address, files))
    if way == "get":
        _print(stub.get(messages.request()))
    elif way == "once":
        _print(stub.sub(iter([messages.request()])))
    elif way == "slow":
        stream = stub.sub(_asking(messages, 0))
        _print([next(stream)])
        time.sleep(60)
    else:
        _print(stub.sub(_asking(messages, 0 if way == "polls" else 1)))


def _channel(address: str, files: tuple[str, ...]) -> grpc.Channel:
    if not files:
        return grpc.insecure_channel(address)
    ca, cert, key = (Path(file).read_bytes() for file in files)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert))


def _asking(messages: Any, wait: float) -> Iterator[Any]:
    time.sleep(wait)
    while True:
        yield messages.request()
        time.sleep(0.1)


def _print(responses: Any) -> None:
    for response in responses:
        sys.stdout.write(MessageToJson(response, preserving_proto_field_name=True, indent=None) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
