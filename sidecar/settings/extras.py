"""Optional dependencies: whether what a setting needs is installed, asked without importing it."""

from collections.abc import Iterator
from importlib.util import find_spec

GRPC_MODULES = ("grpc", "google.protobuf")


def grpc_problems(path: str) -> Iterator[str]:
    """What to install if a setting at `path` needs gRPC, and it is missing."""
    if not all(map(_is_installed, GRPC_MODULES)):
        yield f"{path}: needs grpcio and protobuf, which are not installed: pip install 'falco-correlator[grpc]'"


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it would be in
        return False
